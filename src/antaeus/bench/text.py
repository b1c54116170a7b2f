"""Results of the bench as a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe(result: Mapping[str, Any]) -> str:
    """Any result of `compare`."""
    return "\n".join({"growth": _growth, "edits": _edits}.get(result["bench"], _comparison)(result))


def _comparison(result: Mapping[str, Any]) -> list[str]:
    ours, peer = result["ours"], result["peer"]
    lines = [
        ("{prompts} {what[0]} x {samples} {what[1]} x {tokens} tokens, {dtype} on {device}, {threads} threads").format(
            what=("adapters", "steps") if result["bench"] == "adapters" else ("prompts", "samples"), **result
        ),
        _line("antaeus", ours) + "  " + ", ".join(f"{name} {s:.2f}" for name, s in ours["parts"].items()),
    ]
    if peer:
        lines.append(_line("{name} {version}".format(**peer), peer))
        lines.append("antaeus is {median:.1f} times as fast ({min:.1f} to {max:.1f})".format(**result["speedup"]))
    return lines + _floors(result)


def _floors(result: Mapping[str, Any]) -> list[str]:
    floor, memory = result["floor"], result["memory"]
    best = max(rate["gflops"] for rate in result["matmul"] if rate["dtype"] == result["dtype"])
    rates = "memory is read at {stream_gb_s:.1f} GB/s, by products of one row at {product_gb_s:.1f}".format(**memory)
    lines = [
        f"arithmetic alone: {floor['seconds']:.2f} s, {floor['share']:.0%} of ours; products run at up to {best:.0f} GFLOP/s"
    ]
    if "read_share" not in floor:
        return [*lines, rates]
    alone = "reading alone: {read_s:.2f} s, {read_share:.0%} of our sampling: {weights_gb:.1f} GB of weights, {cache_gb:.1f} GB of cache"
    return [*lines, f"{alone.format(**floor)}; {rates}"]


def _line(name: str, side: Mapping[str, Any]) -> str:
    numbers = "{median:8.2f} s ({min:.2f} to {max:.2f}; {cpu_seconds:.2f} CPU) {tokens_per_s:8.1f} tokens/s {peak_rss_mb:7d} MB"
    return f"{name:<12}" + numbers.format(**side)


def _growth(result: Mapping[str, Any]) -> list[str]:
    lines = ["{prompts} prompts, {tokens} tokens each, {dtype} on {device}, {threads} threads".format(**result)]
    lines.append("completions  seconds  (sampling   update)  s each   peak MB")
    row = "{count:11d} {median:8.2f}  {sample:9.2f} {update:8.2f}  {each:8.4f} {peak_mb:8d}"
    lines += [row.format(**r, **r["parts"]) for r in result["completions"]]
    lines.append("adapters     seconds   s each   peak MB   ({steps} steps of rank {rank})".format(**result["adapters"][0]))
    lines += ["{count:8d} {median:11.2f} {each:8.4f} {peak_mb:9d}".format(**r) for r in result["adapters"]]
    lines.append("vocabulary  length  seconds   MB held by an update   MB that all its logits would take")
    row = "{vocabulary:10d} {length:7d} {median:8.2f} {held_mb:22d} {logits_mb:35d}"
    return lines + [row.format(**r) for r in result["logits"]]


def _edits(result: Mapping[str, Any]) -> list[str]:
    floor, ours, peers = result["floor"], {"name": "antaeus", "version": "", **result["ours"]}, result["peers"]
    best = max(rate["gflops"] for rate in result["matmul"] if rate["dtype"] == result["dtype"])
    sizes = (
        "{prompts} edits: {samples} documents of {document_tokens:.0f} tokens, {epochs} passes; {questions} questions of "
        "{prompt_tokens:.0f} tokens, answers of {answer_tokens}; {dtype} on {device}, {threads} threads"
    )
    measured = "{name:<8} {version:<7} measured: {step_s[median]:7.3f} s a step, {once_s[median]:6.2f} s once, of {edits:2d}; "
    counted = "{steps} steps make {edit_s[median]:8.2f} s an edit ({edit_cpu_s:.2f} CPU), "
    rate = "{per_minute[median]:.3g} a minute ({per_minute[min]:.3g} to {per_minute[max]:.3g})  {peak_rss_mb} MB"
    faster = "antaeus is {speedup[median]:.1f} times as fast as {name} ({speedup[min]:.1f} to {speedup[max]:.1f}; {cpu_speedup:.1f} by CPU)"
    return [
        sizes.format(**result),
        *((measured + counted + rate).format(steps=result["steps"], **side) for side in (ours, *peers)),
        *(faster.format(**peer) for peer in peers),
        f"arithmetic alone: {floor['edit_s']:.2f} s an edit, {floor['share']:.0%} of ours; products run at up to {best:.0f} GFLOP/s",
    ]

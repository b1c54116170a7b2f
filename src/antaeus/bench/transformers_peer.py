"""The peer's side by transformers and torch alone: `generate`, and the padded training step of an ordinary loop."""

from __future__ import annotations

from typing import Any

from antaeus.bench.work import Turn, Work
from antaeus.engine.quiet import quiet

MICRO = 32  # rows a micro-batch, as for TRL


def generate(turn: Turn, work: Work) -> None:
    """`model.generate`, all rows in one batch, sampling from the whole distribution."""
    import torch

    model, tokenizer = _open(turn, work)
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token
    texts = work.texts()
    for start in range(0, len(texts), work.prompts):
        turn.begin()
        rows = [text for text in texts[start : start + work.prompts] for _ in range(work.samples)]
        read = tokenizer(rows, return_tensors="pt", padding=True).to(model.device)
        with torch.inference_mode():
            out = model.generate(
                input_ids=read.input_ids, attention_mask=read.attention_mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=work.tokens, min_new_tokens=work.tokens, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        assert out.shape == (len(rows), read.input_ids.shape[1] + work.tokens)
        turn.end()


def padded(turn: Turn, work: Work) -> None:
    """Prompt and completion of each row in full, padded to the longest, the loss on completions, AdamW on all weights."""
    import torch

    model, tokenizer = _open(turn, work)
    adam = torch.optim.AdamW(model.parameters(), lr=8e-6, weight_decay=0.0, fused=True)
    for rows in work.completions(tokenizer):
        turn.begin()
        for i in range(0, len(rows), MICRO):
            model(**batch(rows[i : i + MICRO], model.device)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        turn.end()


def batch(rows: list[tuple[tuple[int, ...], tuple[int, ...]]], device: Any) -> dict[str, Any]:
    """Rows padded on the right; labels on completions only."""
    import torch

    width = max(len(p) + len(c) for p, c in rows)
    fill = [width - len(p) - len(c) for p, c in rows]
    ids = [[*p, *c, *[0] * n] for (p, c), n in zip(rows, fill, strict=True)]
    mask = [[1] * (width - n) + [0] * n for n in fill]
    labels = [[-100] * len(p) + [*c] + [-100] * n for (p, c), n in zip(rows, fill, strict=True)]
    return {k: torch.tensor(v, device=device) for k, v in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}


def load(work: Work, dtype: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer as transformers opens them, in the data type (unless told another) and on the device of ours."""
    import torch
    import transformers

    with quiet():
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(work.model, dtype=getattr(torch, dtype or work.dtype))
        tokenizer = transformers.AutoTokenizer.from_pretrained(work.model)
    return model.to(work.device).eval(), tokenizer


def _open(turn: Turn, work: Work) -> tuple[Any, Any]:
    import torch
    import transformers

    model, tokenizer = load(work)
    turn.ready(version=transformers.__version__, threads=torch.get_num_threads())
    return model, tokenizer

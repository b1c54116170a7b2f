"""Secrets and network clients in what a model wrote: code by its syntax tree where it parses, anything else by pattern.

Limit: this finds carelessness and plain attempts, not a program that hides (names put together at run time, encoded text). What keeps
code off the network is the sandbox it runs in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from antaeus.guard.findings import Finding

SECRETS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "an Anthropic key": r"\bsk-ant-[\w-]{20,}",
    "an OpenAI key": r"\bsk-(?:proj-|svcacct-)?(?!ant-)[A-Za-z0-9_-]*[A-Za-z0-9]{20,}",
    "a Google key": r"\bAIza[\w-]{35}\b",
    "a Slack token": r"\bxox[abeoprs]-[\w-]{10,}",
    "a Stripe key": r"\b[sr]k_live_[A-Za-z0-9]{20,}",
    "a package index token": r"\bpypi-AgEI[\w-]{50,}",
    "a signed web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s:/@]{1,80}:[^\s:/@]{3,80}@[\w.-]+",
}
_SECRETS = {what: re.compile(pattern) for what, pattern in SECRETS.items()}

CLIENTS = (
    "requests urllib urllib2 urllib3 http httpx httpcore aiohttp socket socketserver ssl ftplib smtplib poplib imaplib telnetlib "
    "xmlrpc websocket websockets paramiko asyncssh pycurl grpc zmq dns boto3 huggingface_hub datasets openai anthropic "
    "google.generativeai google.genai cohere mistralai litellm together groq replicate"
)
_CLIENTS = tuple(CLIENTS.split())
_HARMLESS = ("urllib.parse", "http.HTTPStatus", "datasets.Dataset", "datasets.load_from_disk")
_PROGRAMS = r"curl|wget|nc|ncat|netcat|telnet|ssh|scp|sftp|rsync|ftp|nslookup|dig|socat|aria2c"
_COMMAND = re.compile(
    rf"(?:^|[;&|`(]\s*|\bsudo\s+|/bin/)(?:{_PROGRAMS})\s+\S|\bgit\s+(?:clone|fetch|pull|push)\b|\bpip3?\s+(?:install|download)\b",
    re.M,
)
_RUN = ("subprocess.", "os.system", "os.popen", "os.exec", "os.spawn", "pty.spawn", "asyncio.create_subprocess")
_IMPORTED = ("__import__", "importlib.import_module", "import_module")
_ASYNC = ("asyncio.open_connection", "asyncio.start_server", "asyncio.open_unix_connection")
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)
_SHELLS = {"sh", "bash", "shell", "zsh", "console", "terminal"}
_LINE = re.compile(
    r"^[ \t]*(?:import\s+(?P<plain>[\w.]+)(?:\s+as\s+\w+)?|from\s+(?P<of>[\w.]+)\s+import\s+(?P<names>\(|[\w*]+(?:\s+as\s+\w+)?"
    r"(?:\s*,\s*[\w*]+)*))\s*(?:#.*)?$",
    re.M,
)
_CALL = re.compile(
    r"\b(requests|httpx)\.(?:get|post|put|patch|delete|head|Session|Client|request)\(|\burllib\.request\.\w+\(|\bsocket\.\w+\("
)
_DEVICE = re.compile(r"/dev/(?:tcp|udp)/[\w.]+/\d+")


def leaks(text: str, where: str = "") -> list[Finding]:
    """Fatal findings for secrets of well-known shapes, warnings for network clients in code. Prose about them is let alone."""
    secret = (what for what, pattern in _SECRETS.items() if pattern.search(text))
    found = [Finding("secrets", "fatal", f"holds what looks like {what}", where) for what in secret]
    return [
        *found,
        *(Finding("network", "warning", f"reaches for the network: {how}", where) for how in dict.fromkeys(clients(text))),
    ]


def clients(text: str) -> Iterator[str]:
    """Network clients that code in `text` imports or calls: all of it if it is Python, else its fenced blocks and code-like lines."""
    if _DEVICE.search(text):
        yield "a network device of the shell"
    if (tree := _parse(text)) is not None:
        yield from _in_tree(tree)
        return
    blocks = _FENCE.findall(text)
    for language, block in blocks:
        yield from _in_block(language.lower(), block)
    yield from _in_lines(_FENCE.sub("", text))


def _in_block(language: str, block: str) -> Iterator[str]:
    tree = None if language in _SHELLS else _parse(block)
    if tree is not None:
        yield from _in_tree(tree)
        return
    yield from _in_lines(block)
    if language in _SHELLS and (command := _COMMAND.search(re.sub(r"^[$#>]\s*", "", block, flags=re.M))):
        yield f"the command {command.group().strip()!r}"


def _in_lines(text: str) -> Iterator[str]:
    for line in _LINE.finditer(text):
        names = (line["names"] or "").split(",")[0].split()[:1]
        full = line["plain"] or ".".join([line["of"], *names])
        if _is_client(full):
            yield f"import of {full.rstrip('.(')}"
    if call := _CALL.search(text):
        yield f"call of {call.group().rstrip('(')}"


def _in_tree(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import of {a.name}" for a in node.names if _is_client(a.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"import of {node.module}" for a in node.names if _is_client(f"{node.module}.{a.name}"))
        elif isinstance(node, ast.Call):
            yield from _in_call(ast.unparse(node.func), node)


def _in_call(name: str, node: ast.Call) -> Iterator[str]:
    words = [a.value for a in ast.walk(node) if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if name in _IMPORTED and words and _is_client(words[0]):
        yield f"import of {words[0]}"
    if name.startswith(_ASYNC):
        yield f"call of {name}"
    if name.startswith(_RUN) and _COMMAND.search(" ".join(words)):
        yield f"the command {' '.join(words)[:60]!r}"
    if name in ("exec", "eval") and words:
        yield from clients(words[0])


def _is_client(name: str) -> bool:
    return not name.startswith(_HARMLESS) and any(name == client or name.startswith(f"{client}.") for client in _CLIENTS)


def _parse(text: str) -> ast.AST | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None

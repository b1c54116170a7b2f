"""Static word vectors of a text's tokens, without a network.

WordLlama `l2_supercat_256` (MIT, Miller 2024): 32,000 vectors inside the wheel of the extra `audit`. Its files are read here and its
code is not run: importing it sets up logging for the whole process and brings in an HTTP client.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from antaeus.errors import UserError

SIZE = 256


def available() -> bool:
    """Whether the word vectors are installed (`pip install 'antaeus[audit]'`)."""
    return importlib.util.find_spec("wordllama") is not None


def total(text: str) -> np.ndarray:
    """Sum of the vectors of `text`'s tokens, [256] float32; 0 where it has none. Raises `UserError` where they are not installed."""
    tokenizer, vectors = _model()
    return vectors[tokenizer.encode(text, add_special_tokens=False).ids].sum(axis=0, dtype=np.float32)


def embed(text: str) -> np.ndarray:
    """Mean vector of all of `text`'s tokens, numbers included, of length 1 (0 where it has none), [256]. It does not know their order."""
    return unit(total(text))


def unit(vector: np.ndarray) -> np.ndarray:
    """`vector` at length 1; 0 stays 0."""
    return vector / (np.linalg.norm(vector) or 1.0)


@cache
def _model():
    """The tokenizer and its vectors, [32000, 256] in float16."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("wordllama")
    if spec is None:
        raise UserError("the word vectors are not installed: pip install 'antaeus[audit]'")
    folder = Path(spec.origin or "").parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    return tokenizer, load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]

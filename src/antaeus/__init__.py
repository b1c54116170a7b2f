"""Antaeus: a language model improves itself, and ground truth tells whether it really did.

    >>> import antaeus
    >>> summary = antaeus.run("ttrl", model="smollm2", tasks="add2", rounds=30)

The functions here are those of the command line, by the same names: `run`, `resume`, `list`, `report`, `compare`, `eval`, `audit`,
`check_grader`.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "audit", "check_grader", "compare", "eval", "list", "report", "resume", "run"]


def __getattr__(name: str) -> Any:
    """Load the functions at first use: importing the package costs nothing."""
    if name in __all__:
        from antaeus import api

        return getattr(api, name)
    raise AttributeError(f"module 'antaeus' has no attribute {name!r}")

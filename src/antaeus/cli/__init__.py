"""The command line. It parses, shows and translates errors; what it does is in `antaeus.api`."""

from antaeus.cli.commands import app
from antaeus.cli.entry import main

__all__ = ["app", "main"]

"""What goes wrong because of what the user gave us."""


class UserError(Exception):
    """Bad input or a bad environment. The message is one line: what is wrong, where, and what to do. The CLI exits with 2."""

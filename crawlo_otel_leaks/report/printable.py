"""What may go to a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return a text that cannot steer a terminal: what is not printable comes as its escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))

"""What a command refuses."""

from __future__ import annotations


class UsageError(Exception):
    """A wrong call or environment; the text says what was found and what was expected. Exit code 2."""

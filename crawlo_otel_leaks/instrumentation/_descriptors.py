"""The descriptor below a library's socket, transport or stream writer."""

from __future__ import annotations

from typing import Any


def number(thing: Any) -> int | None:
    """Return the number of the descriptor; None where there is none, or none any more. Reads attributes only."""
    known = getattr(thing, "get_extra_info", None)
    socket = thing if known is None else known("socket")
    fileno = getattr(socket, "fileno", None)
    found = -1 if fileno is None else fileno()
    return found if found >= 0 else None

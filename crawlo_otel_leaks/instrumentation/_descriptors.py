"""The descriptor below a library's socket, transport or stream writer."""

from __future__ import annotations

from typing import Any


def of(thing: Any) -> tuple[int, ...]:
    """Return the number of its descriptor, none where it has none, or none any more. Reads attributes only."""
    known = getattr(thing, "get_extra_info", None)
    socket = thing if known is None else known("socket")
    fileno = getattr(socket, "fileno", None)
    number = -1 if fileno is None else fileno()
    return (number,) if number >= 0 else ()

"""Who waits for a task, and what it waits for itself, as asyncio shows it."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any


def referred(thing: Any) -> object:
    """Return what identifies a thing, also at the next look."""
    try:
        return weakref.ref(thing)  # an id could be another's by the next look
    except TypeError:
        return id(thing)


def awaited(future: Any) -> bool:
    """Whether somebody awaits a future or task, by itself or in a group."""
    return any(_waits(callback) for callback, _ in getattr(future, "_callbacks", None) or ())


def _waits(callback: Any) -> bool:
    """Whether a done callback is that of somebody who waits: a task, or one of asyncio's tools that is awaited."""
    callback = getattr(callback, "func", callback)
    bound = getattr(callback, "__self__", None)
    if isinstance(bound, asyncio.Future):
        return True
    module = str(getattr(callback, "__module__", None) or type(bound).__module__)
    if module.partition(".")[0] not in ("asyncio", "anyio", "uvloop"):
        return False
    # What gather and shield return is a future of their own, which somebody awaits or does not.
    code, cells = getattr(callback, "__code__", None), getattr(callback, "__closure__", None) or ()
    inside = dict(zip(getattr(code, "co_freevars", ()), cells, strict=False))
    if "inner" in inside:  # shield's own, on its future
        return False
    return awaited(inside["outer"].cell_contents) if "outer" in inside else True

"""Garbage that is collected for sure, whatever other threads do."""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Canary:
    """Lives until a collection that began after it was made."""

    def __init__(self):
        self.me = self


def collect():
    """Collect everything; `gc.collect` returns at once and leaves it all while another thread collects."""
    enabled = gc.isenabled()
    gc.disable()  # nobody else's collection, of the young alone, may take the canary
    try:
        alive = weakref.ref(Canary())
        while alive() is not None:
            gc.collect()
    finally:
        if enabled:
            gc.enable()


def freeze():
    """Have the collections to come pass over what there is: all that is imported takes them a tenth of a second."""
    collect()
    gc.freeze()


def settle():
    """Collect until nothing is left: what others leave may make new garbage with each collection."""
    collect()
    for _ in range(10):
        if not gc.collect():
            break


def found() -> list[str]:
    """Collect once, and return the types of what that found."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [type(thing).__qualname__ for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@contextlib.contextmanager
def hearing() -> Iterator[list[warnings.WarningMessage]]:
    """Record every warning of a block, and none of what was garbage before it."""
    collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield told

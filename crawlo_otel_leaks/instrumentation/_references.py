"""Weak references that tell whose they were, and one that refers to nothing."""

from __future__ import annotations

import weakref
from typing import Any, Final


class Ref(weakref.ref[Any]):
    """A weak reference that tells whose it was, without keeping the handle that keeps it."""

    __slots__ = ("key",)
    key: int


class _Nothing:
    """What a dead reference refers to."""


NONE: Final[weakref.ref[Any]] = weakref.ref(_Nothing())

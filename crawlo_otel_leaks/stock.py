"""What records are kept in: dictionaries and the like, or what does the same in C."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crawlo_otel_leaks.durations import Durations

if TYPE_CHECKING:
    from collections.abc import Callable


class Ref(weakref.ref[Any]):
    """A weak reference that tells whose it was, without keeping the handle that keeps it."""

    __slots__ = ("key",)
    key: int
    """The identity of what it refers to, or of what stands for that: once the object is gone, nothing else tells it."""


class Stock(NamedTuple):
    """Makes what a tracker, its pools and instrumentors keep their records in."""

    shelf: Callable[[], dict[Any, None]]
    """Handles, in the order in which they came; there is nothing to any of them. One lies on a single shelf ..."""
    pool_shelf: Callable[[], dict[Any, None]]
    """... and on a single one of these beside."""
    by_identity: Callable[[], dict[int, Any]]
    """What belongs to things."""
    durations: Callable[[int], Durations]
    """At most so many."""
    ref: Callable[[Any, Callable[[Ref], object]], Ref]
    """Refers to things, and tells of their end."""


PLAIN: Final = Stock(dict, dict, dict, Durations, Ref)

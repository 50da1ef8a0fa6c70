"""What records are kept in: dictionaries and the like, or what does the same in C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crawlo_otel_leaks.durations import Durations

if TYPE_CHECKING:
    from collections.abc import Callable


class Stock(NamedTuple):
    """Makes what a tracker, its pools and instrumentors keep their records in."""

    shelf: Callable[[], dict[Any, None]]
    """Handles, in the order in which they came; there is nothing to any of them."""
    by_identity: Callable[[], dict[int, Any]]
    """What belongs to things."""
    durations: Callable[[int], Durations]
    """At most so many."""


PLAIN: Final = Stock(dict, dict, Durations)

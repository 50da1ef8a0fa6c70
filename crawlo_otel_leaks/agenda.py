"""Which handle is to be looked at when."""

from __future__ import annotations

import heapq
from collections import deque
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from crawlo_otel_leaks.watch import Watch

GRAIN: Final = 0.5
"""Seconds that share a list."""
_by_due: Final = attrgetter("due")


class Agenda:
    """Watches in the order in which they fall due.

    A heap of all of them would need a tuple and a number for each. Here a list takes all that fall due in the same
    half second, and is put in order when that has come.
    """

    def __init__(self) -> None:
        self._lists: dict[float, list[Watch]] = {}
        self._order: list[float] = []
        self._ready: deque[Watch] = deque()

    def add(self, watch: Watch, due: float) -> None:
        """Have a handle looked at when `due` says, in monotonic seconds, and no more when an earlier call said."""
        watch.due = due
        key = due // GRAIN if due < inf else inf
        if key not in self._lists:
            self._lists[key] = []
            heapq.heappush(self._order, key)
        self._lists[key].append(watch)

    def open(self, now: float) -> bool:
        """Put in order what has fallen due by `now`; return whether there is any."""
        while self._order and self._order[0] * GRAIN <= now:
            key = heapq.heappop(self._order)
            watches = self._lists.pop(key)
            self._ready += sorted((watch for watch in watches if watch.due <= now), key=_by_due)
            later = [watch for watch in watches if watch.due > now and watch.due // GRAIN == key]
            if later:
                self._lists[key] = later
                heapq.heappush(self._order, key)
                break
        return bool(self._ready)

    def take(self, now: float) -> Watch | None:
        """Return the next of those; None when there is none."""
        while self._ready:
            watch = self._ready.popleft()
            if watch.due <= now:  # else it was put off since
                return watch
        return None

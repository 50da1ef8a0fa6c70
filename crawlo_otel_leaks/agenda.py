"""Which handles are to be looked at when."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawlo_otel_leaks.model import Handle


class Turn:
    """Handles that are looked at together, at `due`, in monotonic seconds; their `threshold`, in seconds, is the same.

    So is whether they were `seen`, looked at before.

    It is all that is kept of one that is as it was when it was acquired: a number and a record of its own would weigh
    more than half of what the handle does.
    """

    __slots__ = ("due", "handles", "seen", "threshold")

    def __init__(self, due: float, threshold: float, *, seen: bool) -> None:
        self.due = due
        self.threshold = threshold
        self.seen = seen
        self.handles: list[Handle] = []


class Agenda:
    """Handles in the order in which they fall due; of those of one moment, in the order in which they were added.

    One that is put off, or brought forward, comes at its former turn all the same: whoever takes it knows its last.
    """

    def __init__(self) -> None:
        self._turns: dict[tuple[float, float, bool], Turn] = {}
        self._order: list[tuple[float, float, bool]] = []
        self._present = Turn(0.0, 0.0, seen=True)
        """Whose time has come; it is empty until one's has."""

    def add(self, handle: Handle, due: float, threshold: float, *, seen: bool) -> Turn:
        """Have a handle looked at when `due` says; return the turn."""
        key = due, threshold, seen
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = Turn(due, threshold, seen=seen)
            heapq.heappush(self._order, key)
        turn.handles.append(handle)
        return turn

    def open(self, now: float) -> bool:
        """Bring the next turn that has come by `now`; return whether there is any."""
        while not self._present.handles:
            if not self._order or self._order[0][0] > now:
                return False
            self._present = self._turns.pop(heapq.heappop(self._order))
            self._present.handles.reverse()  # the first to be taken is the last of a list
        return True

    def take(self, now: float) -> tuple[Handle, Turn] | None:
        """Return the next handle that has fallen due by `now`, and its turn; None when there is none."""
        return (self._present.handles.pop(), self._present) if self.open(now) else None

"""How long things took, in seconds: kept as they are until the detector takes all of them at once, and counts them."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Batch:
    """Durations that were taken together; their sums need at least one."""

    def __init__(self, values: Iterable[float]) -> None:
        self._values = list(values)
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def pop(self) -> float:
        """Take one out; raise IndexError where none is left."""
        return self._values.pop()

    def values(self) -> list[float]:
        """Return all, in the order in which they came."""
        return self._values

    def counts(self, boundaries: Sequence[float]) -> list[int]:
        """Return how many are at most at each boundary and above the one before, and above the last: as histograms do.

        As many searches as there are buckets, not as there are values: half the time.
        """
        ordered = self._in_order()
        below = [bisect_right(ordered, boundary) for boundary in boundaries]
        return [end - start for start, end in zip([0, *below], [*below, len(ordered)], strict=True)]

    def sums(self) -> tuple[float, float, float]:
        """Return their sum, the least and the greatest of them."""
        ordered = self._in_order()
        return sum(ordered), ordered[0], ordered[-1]

    def _in_order(self) -> list[float]:
        if len(self._ordered) != len(self._values):
            self._ordered = sorted(self._values)
        return self._ordered


class Durations(deque[float]):
    """The last `most` of what things took; older ones are dropped."""

    def __init__(self, most: int) -> None:
        super().__init__(maxlen=most)

    def take(self) -> Batch:
        """Take all of them out, while others may come."""
        return Batch([self.popleft() for _ in range(len(self))])

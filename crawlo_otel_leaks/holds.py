"""How long a site's handles were held, and what that says of the next one."""

from __future__ import annotations

from math import inf, log2
from typing import Final

ENOUGH: Final = 100
"""Releases after which a site's own history replaces the threshold of its kind."""
FACTOR: Final = 10.0
"""A hold is too long beyond so many times the site's 99th percentile: one in a hundred exceeds that itself."""
_LOWEST: Final = 2.0**-20


class Holds:
    """Hold times of one site in buckets of powers of two, from a microsecond up."""

    __slots__ = ("brief", "buckets", "timed")

    def __init__(self) -> None:
        self.buckets = [0] * 48
        self.timed = 0
        self.brief = 0
        """Holds too short to be timed one by one."""

    @property
    def total(self) -> int:
        """How many holds there were."""
        return self.timed + self.brief

    def add(self, held: float) -> None:
        """Count one hold of `held` seconds."""
        place = int(log2(max(held, _LOWEST) / _LOWEST))
        self.buckets[min(place, len(self.buckets) - 1)] += 1
        self.timed += 1

    def p99(self) -> float:
        """Return the upper edge in seconds of the bucket with the 99th percentile, for brief ones the lowest."""
        rest = self.total * 0.99 - self.brief
        if rest <= 0:
            return _LOWEST
        for place, count in enumerate(self.buckets):
            rest -= count
            if rest <= 0:
                return float(_LOWEST * 2 ** (place + 1))
        return inf

    def longest(self) -> float:
        """Return the upper edge, in seconds, of the highest bucket that holds any; 0 without history."""
        places = [place for place, count in enumerate(self.buckets) if count]
        return float(_LOWEST * 2 ** (places[-1] + 1)) if places else 0.0


def threshold(holds: Holds | None, of_kind: float | None, least: float) -> float:
    """Return after how many idle seconds a handle of a site is held too long.

    Ten times the site's p99, at least `least`, once it has history; else the kind's, if it has one.
    """
    if of_kind is None:
        return inf
    if holds is None or holds.total < ENOUGH:
        return of_kind
    return max(holds.p99() * FACTOR, least)

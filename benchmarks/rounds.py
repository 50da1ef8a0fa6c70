"""Interleaved rounds of one process: the same work untracked, and under each rival; ratios of neighbours."""

from __future__ import annotations

import gc
import statistics
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from rivals import Rival
    from works import Work

DEPTH: Final = 20


class Spread(NamedTuple):
    """Lower quartile, median and upper quartile."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return those of some values."""
        low, median, high = statistics.quantiles(values, n=4)
        return cls(low, median, high)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


class Compared(NamedTuple):
    """What a work takes untracked, and how many times as long under each rival."""

    untracked_us: Spread
    ratios: dict[str, Spread]
    later: dict[str, float]
    """Of each ratio, the median part that is done later, on a thread of its own."""


def deep(depth: int, work: Work) -> float:
    """Run the work at a stack depth as real programs have."""
    return work() if depth == 0 else deep(depth - 1, work)


def timed(work: Work, part: float = 1) -> float:
    """Return the seconds of one operation; what preparing the round left behind is not collected within it."""
    work.part = part
    gc.collect()
    return deep(DEPTH, work)


def one_round(work: Work, rival: Rival) -> tuple[float, float]:
    """Return the seconds of one operation, and its part of what is done later."""
    with rival.on(work):
        took = timed(work, rival.part)
        return took, max(0.0, rival.later()) / work.loops


def compare(work: Work, rivals: dict[str, Rival], rounds: int) -> Compared:
    """Run so many rounds of each, in turns; a ratio is to the mean of the untracked rounds before and after."""
    plain: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in rivals}
    laters: dict[str, list[float]] = {name: [] for name in rivals}
    deep(DEPTH, work)
    for rival in rivals.values():
        one_round(work, rival)
    before = timed(work)
    for _ in range(rounds):
        for name, rival in rivals.items():
            took, later = one_round(work, rival)
            after = timed(work)
            ratios[name].append(2 * (took + later) / (before + after))
            laters[name].append(2 * later / (before + after))
            plain.append(after)
            before = after
    return Compared(
        Spread.of([1e6 * seconds for seconds in plain]),
        {name: Spread.of(values) for name, values in ratios.items()},
        {name: statistics.median(values) for name, values in laters.items()},
    )

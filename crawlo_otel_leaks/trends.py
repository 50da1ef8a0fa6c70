"""Is a series growing? A statistical test that knows warm-up, steps, plateaus and sawteeth from growth."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Points = Sequence[tuple[float, float]]

ENOUGH: Final = 20
"""Points below which nothing is said."""
MOST: Final = 96
"""Points that a longer series is thinned to, so that what follows is quadratic in a small number."""
WARM_UP: Final = 0.1
"""Part of a series, from its beginning, that is never looked at."""
FLOORS: Final = 12
"""Stretches whose lowest values make the lower envelope."""
WHOLE: Final = 0.01
"""Chance that growth over the whole is a coincidence, at most; ..."""
PART: Final = 0.05
"""... likewise beside its largest step, and in its second half, where there is less to see it by; ..."""
TAIL: Final = 0.2
"""... and beside the largest step of the second half, where there is least."""
LIFT: Final = 1 / 3
"""Part of the slope that the lower envelope must rise by too."""
DECAY: Final = 0.75
"""Each third of the second half must rise by so much of what the one before rose by, unless noise explains it."""


class Verdict(str, Enum):
    """What a series does."""

    GROWING = "growing"
    STABLE = "stable"
    INSUFFICIENT = "insufficient_data"


@dataclass(frozen=True)
class Trend:
    """A verdict on a series."""

    verdict: Verdict
    slope: float = 0.0
    """Present change per second, by the second half of the series."""
    confidence: float = 0.0
    """1 less the chance that the growth is a coincidence; where it is stable, that chance itself."""
    eta: float | None = None
    """Seconds to the limit at this slope; None unless it is growing towards one."""


@dataclass(frozen=True)
class _Test:
    """Kendall's S of a stretch, its variance, and Sen's slope per second."""

    s: float
    variance: float
    slope: float

    @property
    def chance(self) -> float:
        """How probable at least so much rise is in a series without a trend."""
        return _chance(self.s, self.variance)


def trend(points: Points, limit: float | None = None, least: float = 0.0) -> Trend:
    """Tell whether a series of (seconds, value), in the order of time, is growing, and when it reaches `limit`.

    At a slope that adds less than the part `least` of the value over the whole series it is not, however certain.

    Growing is what rises beyond coincidence as a whole, beside its largest step, in its second half, and beside
    the largest step of that, with its lower envelope too, and without levelling off. What is collected again and
    again rises and falls: there the lower envelope alone may show it.
    """
    known = [(at, value) for at, value in points if math.isfinite(at) and math.isfinite(value)]
    known = known[int(len(known) * WARM_UP) :]
    if len(known) < ENOUGH or known[-1][0] <= known[0][0]:
        return Trend(Verdict.INSUFFICIENT)
    if len({value for _, value in known}) == 1:
        return Trend(Verdict.STABLE, 0.0, 1.0)
    series = thinned(known, MOST)
    if len(series) < ENOUGH:  # two crowds of points, far apart
        return Trend(Verdict.INSUFFICIENT)
    floors = [min(part, key=lambda point: point[1]) for part in _stretches(known, FLOORS)]
    tail = _tail(series)
    slope = sen_slope(tail)
    doubt = min(_doubt(series), _doubt(floors))
    if slope * (known[-1][0] - known[0][0]) < least * abs(_level(tail)):
        return Trend(Verdict.STABLE, slope, 1 - doubt)
    if doubt > WHOLE or sen_slope(floors) <= LIFT * sen_slope(series) or _levels_off(tail):
        return Trend(Verdict.STABLE, slope, doubt if doubt > WHOLE else 1 - doubt)
    return Trend(Verdict.GROWING, slope, 1 - doubt, _eta(tail, slope, limit))


def _tail(series: Points) -> Points:
    return series[len(series) // 2 :]


def _doubt(series: Points) -> float:
    """Return the largest of the chances of a series, each in proportion to what it may be at most."""
    tail = _tail(series)
    tests = (
        (mann_kendall(series).chance, WHOLE),
        (beside_largest_step(series), PART),
        (mann_kendall(tail).chance, PART),
        (beside_largest_step(tail), TAIL),
    )
    return min(max(chance * WHOLE / most for chance, most in tests), 1.0)


def _eta(tail: Points, slope: float, limit: float | None) -> float | None:
    if limit is None or slope <= 0:
        return None
    return max(limit - _level(tail), 0.0) / slope


def _level(tail: Points) -> float:
    """Return the present value, without its noise."""
    return median(value for _, value in tail[-max(len(tail) // 8, 1) :])


def thinned(points: Points, most: int) -> Points:
    """Return at most `most` points: the medians of as many equal stretches of time."""
    if len(points) <= most:
        return points
    return [(median(at for at, _ in part), median(value for _, value in part)) for part in _stretches(points, most)]


def _stretches(points: Points, count: int) -> Iterable[Points]:
    """Yield the points of each of `count` equal stretches of time that has any."""
    start, end = points[0][0], points[-1][0]
    times = [at for at, _ in points]
    edges = [bisect.bisect_left(times, start + (end - start) * place / count) for place in range(1, count)]
    for low, high in pairwise([0, *edges, len(points)]):
        if high > low:
            yield points[low:high]


def sen_slope(points: Points) -> float:
    """Return the median of the slopes between all pairs of points.

    Theil, H. (1950), Proc. Kon. Ned. Akad. v. Wetensch. A 53; Sen, P. K. (1968), "Estimates of the regression
    coefficient based on Kendall's tau", JASA 63, 1379-1389. Up to 29 % of wild points do not move it.
    """
    slopes = [
        (later - earlier) / (end - start)
        for place, (start, earlier) in enumerate(points)
        for end, later in points[place + 1 :]
        if end > start
    ]
    return median(slopes) if slopes else 0.0


def mann_kendall(points: Points) -> _Test:
    """Test for a monotonic trend.

    Mann, H. B. (1945), "Nonparametric tests against trend", Econometrica 13, 245-259; Kendall, M. G. (1975),
    "Rank Correlation Methods", for the variance with ties; Hamed, K. H. and Rao, A. R. (1998), "A modified
    Mann-Kendall trend test for autocorrelated data", J. Hydrology 204, 182-196, for the factor on it.
    """
    values = [value for _, value in points]
    slope = sen_slope(points)
    s = sum((later > value) - (later < value) for place, value in enumerate(values) for later in values[place + 1 :])
    variance = _variance(values) * _inflation(points, slope)
    return _Test(s, variance, slope)


def _variance(values: Sequence[float]) -> float:
    """Return the variance of S in a series without trend and autocorrelation, corrected for ties (Kendall 1975)."""
    ties: dict[float, int] = {}
    for value in values:
        ties[value] = ties.get(value, 0) + 1
    return (_of_ties(len(values)) - sum(_of_ties(tied) for tied in ties.values())) / 18


def _of_ties(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)


def _inflation(points: Points, slope: float) -> float:
    """Return by what autocorrelation multiplies the variance of S (Hamed and Rao 1998, equation 18).

    Of the ranks of what is left without the trend, at the lags where it is significant at 5 %. Never below 1:
    anticorrelation makes the test sharper in theory, and rash in practice.
    """
    count = len(points)
    ranks = _ranks([value - slope * at for at, value in points])
    weighed = sum(
        (count - lag) * (count - lag - 1) * (count - lag - 2) * correlation
        for lag, correlation in enumerate(_autocorrelation(ranks), 1)
        if abs(correlation) > 1.96 / math.sqrt(count)
    )
    scale = count * (count - 1) * (count - 2)
    return max(1.0, 1 + 2 * weighed / scale) if scale else 1.0


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value; ties share the mean of theirs."""
    ordered = sorted(values)
    return [(bisect.bisect_left(ordered, value) + bisect.bisect_right(ordered, value)) / 2 for value in values]


def _autocorrelation(values: Sequence[float]) -> list[float]:
    """Return the correlation of a series with itself at lags 1, 2, ... (Box and Jenkins's estimate)."""
    mean = sum(values) / len(values)
    centred = [value - mean for value in values]
    power = sum(value * value for value in centred)
    if not power:
        return []
    return [
        sum(one * other for one, other in zip(centred, centred[lag:], strict=False)) / power
        for lag in range(1, len(values) - 2)
    ]


def beside_largest_step(points: Points) -> float:
    """Return the chance of what rises before and after the largest step, the step itself left out.

    Where the step is: Pettitt, A. N. (1979), "A non-parametric approach to the change-point problem", Applied
    Statistics 28, 126-135. Adding the S of both sides and their variances: Hirsch, R. M., Slack, J. R. and Smith,
    R. A. (1982), "Techniques of trend analysis for monthly water quality data", Water Resour. Res. 18, 107-121.
    """
    if len(points) < 2:  # noqa: PLR2004  (a step is between two)
        return 1.0
    place = change_point([value for _, value in points])
    sides = [mann_kendall(side) for side in (points[:place], points[place:])]
    return _chance(sum(side.s for side in sides), sum(side.variance for side in sides))


def change_point(values: Sequence[float]) -> int:
    """Return before which value the series most probably changes its level (Pettitt 1979)."""
    ranks = _ranks(values)
    mean = (len(values) + 1) / 2
    best, place, total = -1.0, 1, 0.0
    for index, rank in enumerate(ranks[:-1], 1):
        total += rank + 0.5 - mean
        if abs(total) > best:
            best, place = abs(total), index
    return place


def _chance(s: float, variance: float) -> float:
    """Return the one-sided probability of at least S, with Kendall's correction for continuity."""
    if s <= 1 or variance <= 0:
        return 1.0 if s <= 0 else 0.5
    return 0.5 * math.erfc((s - 1) / math.sqrt(2 * variance))


def _levels_off(tail: Points) -> bool:
    """Whether the rises from third to third get smaller, like a geometric series, beyond what noise explains.

    The ratio of successive differences tells a sequence that converges (Aitken, A. C. (1926), Proc. R. Soc.
    Edinburgh 46, 289-305); the error of each level is that of a mean of autocorrelated values.
    """
    parts = list(_stretches(tail, 3))
    if len(parts) < 3:  # noqa: PLR2004  (thirds)
        return False
    first, second, third = (sum(value for _, value in part) / len(part) for part in parts)
    short = DECAY * (second - first) - (third - second)
    weights = (DECAY, 1 + DECAY, 1)
    error = math.hypot(*(weight * _error(part) for weight, part in zip(weights, parts, strict=True)))
    return short > 1.64 * error


def _error(points: Points) -> float:
    """Return the standard error of the mean, beside a trend."""
    slope = sen_slope(points)
    rest = [value - slope * at for at, value in points]
    mean = sum(rest) / len(rest)
    spread = sum((value - mean) ** 2 for value in rest) / max(len(rest) - 2, 1)
    return math.sqrt(spread * _inflation(points, slope) / len(rest))

"""The process over time: a bounded series of snapshots, what grows in it, and which descriptors no handle explains."""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crawlo_otel_leaks import libuv, process, semconv
from crawlo_otel_leaks.kinship import descriptors
from crawlo_otel_leaks.trends import Trend, Verdict, trend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from crawlo_otel_leaks.growth import Grown
    from crawlo_otel_leaks.process import Descriptor, ProcessSnapshot
    from crawlo_otel_leaks.tracker import Tracker

MOMENT: Final = 0.1
"""Seconds until what nothing explains is looked at again: who reads a file may have to wait for a processor."""
INTERVAL: Final = 15.0
"""Seconds from one snapshot to the next, at least."""
RECENT: Final = 360
"""Newest points kept as they are: an hour and a half; ..."""
OLDER: Final = 360
"""... and so many from before, ever farther apart."""
SHOWN: Final = 240
"""Points of the series in a report."""
LEAST: Final = {"rss": 0.01, "objects": 0.05}
"""Part of a quantity that its growth must add to be worth a word: this very series adds some of both, at first."""


class Point(NamedTuple):
    """One snapshot in brief."""

    at: float
    """Monotonic seconds."""
    wall: float
    """Seconds since 1970."""
    rss: int | None = None
    """Bytes."""
    objects: int | None = None
    """Blocks of memory that the interpreter has handed out: an object takes one, or a few."""
    fds: int | None = None
    unattributed: int | None = None
    sockets: int | None = None
    threads: int | None = None
    tasks: int | None = None
    db_connections: int | None = None
    """Held by the program, of those that are watched; so are the next."""
    redis_connections: int | None = None


QUANTITIES: Final = Point._fields[2:]


class Series:
    """Points in the order of time, the older ones ever farther apart, so that there are never too many."""

    def __init__(self) -> None:
        self.recent: deque[Point] = deque()
        self.older: list[Point] = []
        self._spacing = 0.0

    def add(self, point: Point) -> None:
        """Take a new point."""
        self.recent.append(point)
        if len(self.recent) > RECENT:
            self._age(self.recent.popleft())

    def _age(self, point: Point) -> None:
        if self.older and point.at - self.older[-1].at < self._spacing:
            return
        self.older.append(point)
        if len(self.older) > OLDER:
            self.older = self.older[::2]
            self._spacing = 2 * (point.at - self.older[0].at) / OLDER

    def __iter__(self) -> Iterator[Point]:
        """Yield all points, from a copy."""
        return iter([*self.older, *self.recent])


class Vitals:
    """Looks at the process now and then; on the detector's thread, and from a report on any."""

    def __init__(
        self,
        tracker: Tracker,
        descriptors: Callable[[], dict[int, Descriptor] | None] | None = None,
        own: Callable[[], set[int]] = set,
    ) -> None:
        self._tracker = tracker
        self._own = own
        self._descriptors = descriptors or process.descriptors
        self.pause: Callable[[float], object] = time.sleep
        """What lets seconds pass in the midst of a look."""
        self._interval = INTERVAL
        self.begin()

    def every(self, seconds: float) -> None:
        """Take a snapshot every so many seconds from now on, rather than every `INTERVAL`."""
        self._interval, self._due = seconds, 0.0

    def begin(self) -> None:
        """Begin anew: what is open now, no handle can explain, nor needs to."""
        self.series = Series()
        self.latest: ProcessSnapshot | None = None
        self.numbers: dict[str, float] = {}
        """What gauges show, by metric name; what is not known is not there."""
        self.growing = False
        """Whether resident memory does, as of the latest snapshot."""
        self.grown: Grown | None = None
        """What made it grow, as far as a window has shown."""
        self._due = 0.0
        self._baseline: Mapping[int, Descriptor] = self._descriptors() or {}

    def look(self, now: float, *, last: bool = False) -> None:
        """Take a snapshot if one is due `now`, in monotonic seconds, or if it is the last."""
        if now < self._due and not last:
            return
        self._due = now + self._interval
        explained = self._explained()
        held = self._descriptors()
        self.latest = seen = process.snapshot(held)
        # What was opened, or closed, while we listed is explained before or after.
        unexplained = None if held is None else len(self._lasting(held, explained | self._explained()))
        self.series.add(self._point(now, seen, unexplained))
        self._count(unexplained)
        self.growing = self.trend("rss").verdict is Verdict.GROWING

    def _point(self, now: float, seen: ProcessSnapshot, unexplained: int | None) -> Point:
        return Point(
            now,
            seen.wall,
            rss=seen.rss,
            # Counting what the collector knows would stop all threads; this is 0.2 ms for 8 million blocks.
            objects=sys.getallocatedblocks() or None,
            fds=seen.fds,
            unattributed=unexplained,
            sockets=_sockets(seen.fds_by_type),
            threads=seen.threads,
            tasks=seen.tasks,
            db_connections=self._tracker.count(semconv.DB_CONNECTION),
            redis_connections=self._tracker.count(semconv.REDIS_CONNECTION),
        )

    def _count(self, unexplained: int | None) -> None:
        numbers = {
            semconv.METRIC_FD_UNATTRIBUTED: unexplained,
            semconv.METRIC_FD_ETA: self.trend("fds").eta,
        }
        self.numbers = {name: float(value) for name, value in numbers.items() if value is not None}

    def _explained(self) -> set[int]:
        """Return the descriptors that the live handles stand for."""
        return {number for handle in self._tracker.held() for number in descriptors(self._tracker, handle)}

    def _lasting(self, held: Mapping[int, Descriptor], explained: set[int]) -> set[int]:
        """Look again at what nothing explains: a module that is being imported has its file open for a moment."""
        strangers = self._unexplained(held, explained)
        if not strangers:
            return strangers
        self.pause(MOMENT)  # whoever has it open gets on; this is the detector's thread
        again = self._descriptors() or {}
        return {number for number in strangers if _same(again.get(number), held[number])} - self._explained()

    def _unexplained(self, held: Mapping[int, Descriptor], explained: set[int]) -> set[int]:
        """Leave out what was open before us, unless its number is another's now, and what event loops are made of."""
        known = self._baseline
        strangers = {number for number, found in held.items() if not _same(known.get(number), found)}
        strangers -= explained | process.loop_descriptors() | self._own()
        return strangers - libuv.explained(held, strangers)

    def trend(self, quantity: str) -> Trend:
        """Tell whether a quantity grows, over all that is known or of late."""
        limit = _limit() if quantity == "fds" else None
        least = LEAST.get(quantity, 0.0)
        recent = trend(_values(self.series.recent, quantity), limit, least)
        if recent.verdict is Verdict.GROWING or not self.series.older:
            return recent
        return trend(_values(self.series, quantity), limit, least)

    def block(self) -> dict[str, Any]:
        """Return the `process` part of a report."""
        points = list(self.series)
        trends = {quantity: self.trend(quantity) for quantity in QUANTITIES}
        changes = {quantity: _change(_values(points, quantity), told) for quantity, told in trends.items()}
        step = -(-len(points) // SHOWN) or 1
        return {
            "series": [_shown(point) for point in points[::-step][::-1]],
            "changes": {quantity: change for quantity, change in changes.items() if change},
            "suspects": [
                {"quantity": quantity, **_told(one)}
                for quantity, one in trends.items()
                if one.verdict is Verdict.GROWING
            ],
            "type_changes": self.grown.types if self.grown else [],
            "memory_sites": self.grown.sites if self.grown else [],
        }


def _same(before: Descriptor | None, now: Descriptor) -> bool:
    return before is not None and (before == now or process.UNCLASSIFIED in (before.type, now.type))


def _sockets(by_type: Mapping[str, int] | None) -> int | None:
    """Return how many there are; None if some descriptors were not looked at, for they may be sockets."""
    if by_type is None or process.UNCLASSIFIED in by_type:
        return None
    return by_type.get("socket", 0)


def _limit() -> float | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else float(soft)


def _values(points: Any, quantity: str) -> list[tuple[float, float]]:  # noqa: ANN401  (any iterable of points)
    values = ((point.at, getattr(point, quantity)) for point in list(points))
    return [(at, float(value)) for at, value in values if value is not None]


def _change(values: list[tuple[float, float]], told: Trend) -> dict[str, Any]:
    if not values:
        return {}
    first, last = values[0][1], values[-1][1]
    return {"first": first, "last": last, "verdict": told.verdict.value, **_told(told)}


def _told(one: Trend) -> dict[str, float | None]:
    eta = None if one.eta is None else round(one.eta, 1)
    return {"slope": float(f"{one.slope:.4g}"), "confidence": round(one.confidence, 4), "eta_s": eta}


def _shown(point: Point) -> dict[str, float | None]:
    return {**point._asdict(), "at": round(point.at, 3), "wall": round(point.wall, 3)}

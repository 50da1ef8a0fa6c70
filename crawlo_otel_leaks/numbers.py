"""What gauges show, computed on the detector's thread, so that reading them costs and locks nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crawlo_otel_leaks.detector import Detector
    from crawlo_otel_leaks.tracker import Tracker

    Own = tuple[str, str, str, Callable[[], float]]

HANDLE_BYTES = sys.getsizeof(object()) + 240
"""Estimate of one live handle in bytes, its dict entry included; measured in benchmarks/."""


class Numbers:
    """The newest values, replaced as a whole at each tick. Ages are seconds."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        zeros = dict.fromkeys(semconv.KINDS, 0.0)
        # A series that is not observed vanishes from backends: kinds without handles show 0.
        self.held: dict[str, float] = zeros
        self.oldest: dict[str, float] = zeros
        self.open: dict[str, float] = zeros

    def update(self, detector: Detector, now: float) -> None:
        """Compute the values as of `now`, in monotonic seconds."""
        tracker = self._tracker
        self.held = {kind: float(tracker.count(kind)) for kind in semconv.KINDS}
        self.oldest = {kind: _age(tracker, kind, now) for kind in semconv.KINDS}
        leaks = dict.fromkeys(semconv.KINDS, 0.0)
        for finding in list(detector.findings.by_key.values()):
            if finding.reason.is_leak:
                leaks[finding.first.kind] += finding.open
        self.open = leaks

    def own(self) -> Iterable[Own]:
        """Return name, unit, meaning and reader of each figure about the tracker itself."""
        tracker = self._tracker
        return (
            (semconv.METRIC_TRACKER_BYTES, "By", "Estimated memory of the tracker.", self._bytes),
            (semconv.METRIC_TRACKER_DROPPED, "{handle}", "Releases not examined.", lambda: tracker.dropped),
            (semconv.METRIC_TRACKER_ERRORS, "{error}", "Failures of the tracker itself.", lambda: tracker.errors),
            (semconv.METRIC_TRACKER_IGNORED, "{handle}", "Handles of telemetry itself.", lambda: tracker.ignored),
            (semconv.METRIC_TRACKER_SAMPLING, "1", "Part of acquisitions whose whole stack is taken.", self._rate),
        )

    def _bytes(self) -> float:
        return sum(self.held.values()) * HANDLE_BYTES + len(self._tracker.sites) * 512

    def _rate(self) -> float:
        return self._tracker.sites.rate


def _age(tracker: Tracker, kind: str, now: float) -> float:
    for shelf in (tracker.old[kind], tracker.young[kind]):
        try:
            handle = next(iter(shelf), None)
        except RuntimeError:  # changed by another thread between the two steps; the next tick tells
            return 0.0
        if handle is not None:
            return now - handle.acquired_at
    return 0.0

"""What gauges show, computed on the detector's thread, so that reading them costs and locks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.tenure import BEGUN

if TYPE_CHECKING:
    from crawlo_otel_leaks.detector import Detector
    from crawlo_otel_leaks.tracker import Tracker

HANDLE_BYTES: Final = 300 if BEGUN else 620
"""Estimate of one live handle in bytes, with its references, its watch and its entries; less in C: docs/overhead.md."""
SITE_BYTES: Final = 512
"""Estimate of one interned site in bytes."""


class Numbers:
    """The newest values, replaced as a whole at each tick. Ages are seconds."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.reset()

    def reset(self) -> None:
        """Show nothing held; a series that is not observed vanishes from backends, so kinds without handles show 0."""
        zeros = dict.fromkeys(semconv.KINDS, 0.0)
        self.held: dict[str, float] = zeros
        self.oldest: dict[str, float] = zeros
        self.open: dict[str, float] = zeros
        self.process: dict[str, float] = {}
        """What the process is seen to hold, by metric name; what is not known is not there."""
        self.own: dict[str, float] = self._of_tracker()
        """What the tracker itself costs, by metric name."""

    def update(self, detector: Detector, process: dict[str, float], now: float) -> None:
        """Compute the values as of `now`, in monotonic seconds; those of the process come as they are."""
        tracker = self._tracker
        self.held = {kind: float(tracker.count(kind)) for kind in semconv.KINDS}
        self.oldest = {kind: _age(tracker, kind, now) for kind in semconv.KINDS}
        leaks = dict.fromkeys(semconv.KINDS, 0.0)
        for finding in list(detector.findings.by_key.values()):
            if finding.reason.is_leak:
                leaks[finding.first.kind] += finding.open
        self.open = leaks
        self.process = process
        self.own = self._of_tracker()

    def _of_tracker(self) -> dict[str, float]:
        tracker = self._tracker
        return {
            semconv.METRIC_TRACKER_BYTES: sum(self.held.values()) * HANDLE_BYTES + len(tracker.sites) * SITE_BYTES,
            semconv.METRIC_TRACKER_DROPPED: float(tracker.dropped),
            semconv.METRIC_TRACKER_ERRORS: float(tracker.errors),
            semconv.METRIC_TRACKER_IGNORED: float(tracker.ignored),
            semconv.METRIC_TRACKER_SAMPLING: tracker.sites.rate,
        }


def _age(tracker: Tracker, kind: str, now: float) -> float:
    for shelf in (tracker.old[kind], tracker.young[kind]):
        try:
            handle = next(iter(shelf), None)
        except RuntimeError:  # changed by another thread between the two steps; the next tick tells
            return 0.0
        if handle is not None:
            return now - handle.acquired_at
    return 0.0

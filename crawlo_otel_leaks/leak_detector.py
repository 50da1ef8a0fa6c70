"""LeakDetector: a baseline, snapshots, and what has leaked since, as handles and trends tell it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import analysis, leak_text, runtime, snapshots, watching
from crawlo_otel_leaks.stretch import Caller, Stretch
from crawlo_otel_leaks.trends import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlo_otel_leaks.model import Scope
    from crawlo_otel_leaks.snapshots import ResourceSnapshot
    from crawlo_otel_leaks.trends import Trend
    from crawlo_otel_leaks.vitals import Point

_logger = logging.getLogger("crawlo_otel_leaks")
MOST: Final = 2_000
"""Snapshots kept; of more, every second one of the older half goes."""
_TOO_FEW: Final = "a baseline and a snapshot after it are needed, or two snapshots"
_BLIND: Final = (
    "nothing is watched, so that only trends over at least 20 snapshots could tell; run the program under "
    "opentelemetry-instrument, and let CRAWLO_OTEL_LEAKS_ENABLED and CRAWLO_OTEL_LEAKS_LEVEL not switch it off"
)


class LeakDetector:
    """Tells what was acquired since a baseline and is still held, lost, or growing.

    Where nothing is instrumented yet, the first baseline or snapshot instruments what is installed. Within a `scope`
    it looks at what was acquired in that alone. May be used from any thread; on that of a running event loop no
    objects are counted by type, which would stop it.
    """

    def __init__(self, name: str = "default", *, scope: Scope | None = None) -> None:
        self.name = name
        self._scope = scope
        self._lock = threading.Lock()
        self._snapshots: list[ResourceSnapshot] = []
        self._baseline: ResourceSnapshot | None = None
        self._stretch: Stretch | None = None

    def set_baseline(self, name: str = "baseline", *, types: bool | None = None) -> ResourceSnapshot:
        """Begin anew: what is held now is nobody's leak."""
        stretch = self._begin()
        taken = snapshots.take(name, stretch.running if stretch else None, types=types)
        with self._lock:
            self._baseline, self._stretch = taken, stretch
        return taken

    def snapshot(self, name: str = "", *, types: bool | None = None) -> ResourceSnapshot:
        """Note how things are now."""
        stretch = self._stretch
        if stretch is None:
            stretch = self._stretch = self._begin()
        taken = snapshots.take(
            name or f"snapshot_{len(self._snapshots)}", stretch.running if stretch else None, types=types
        )
        with self._lock:
            self._snapshots.append(taken)
            if len(self._snapshots) > MOST:
                del self._snapshots[1 : MOST // 2 : 2]
        return taken

    def analyze(self, threshold_mb: float = 10.0) -> dict[str, Any]:
        """Return the verdict as of now. `threshold_mb` is the least growth of memory that counts, if it is a trend."""
        return self.analyze_for(Caller.here(), threshold_mb)

    def analyze_for(self, caller: Caller, threshold_mb: float = 10.0) -> dict[str, Any]:
        """Return the verdict for work of another task or thread, which is over."""
        first, later, stretch = self._state()
        latest = later[-1] if later else None
        series = [first, *later] if first else []
        told = analysis.trends(series, self._points(stretch, first))
        changed = analysis.changes(first, latest)
        leaks: list[dict[str, Any]] = []
        if latest is not None:
            suspects = stretch.suspects(caller) if stretch else []
            now = stretch.running.tracker.clock() if stretch else 0.0
            leaks = analysis.potential_leaks(suspects, told, changed, threshold_mb, now)
        missing = _missing(latest, stretch, told)
        return {
            "status": analysis.LEAKING if leaks else analysis.UNKNOWN if missing else analysis.HEALTHY,
            **({"message": missing} if missing else {}),
            "duration_seconds": latest.at - first.at if latest and first else 0.0,
            "baseline": first.to_dict() if first else None,
            "latest": latest.to_dict() if latest else None,
            "changes": changed,
            "potential_leaks": leaks,
            "type_changes": _type_changes(series),
            "snapshot_count": len(self._snapshots),
        }

    def get_trend(self, metric: str = "memory_mb") -> list[float | None]:
        """Return a metric of each snapshot, by its name in an analysis or by Crawlo's; None where it is not known."""
        with self._lock:
            return [one.metric(metric) for one in self._snapshots]

    def generate_report(self, lang: str | None = None) -> str:
        """Return the analysis as text, in English (`en`) or Chinese (`zh`); by default as the locale has it."""
        told = self.analyze()
        with self._lock:
            series = [one for one in (self._baseline, *self._snapshots) if one is not None]
        return leak_text.render(self.name, told, series, lang)

    def clear(self) -> None:
        """Forget baseline and snapshots."""
        with self._lock:
            self._snapshots = []
            self._baseline = self._stretch = None

    def _begin(self) -> Stretch | None:
        running = watching.begin()
        return None if running is None else Stretch(running, self._scope)

    def _state(self) -> tuple[ResourceSnapshot | None, list[ResourceSnapshot], Stretch | None]:
        """Return where the comparison begins, what came after it, and what it is about."""
        with self._lock:
            taken, stretch = list(self._snapshots), self._stretch
            first = self._baseline or next(iter(taken), None)
        later = [one for one in taken if first is not None and one is not first and one.at >= first.at]
        if stretch is not None and stretch.running is not runtime.current():  # stopped meanwhile
            stretch = None
        return first, later, stretch

    def _points(self, stretch: Stretch | None, first: ResourceSnapshot | None) -> list[Point]:
        if stretch is None or first is None:
            return []
        try:
            return [point for point in stretch.running.vitals.series if point.at >= first.at]
        except RuntimeError:  # the detector's thread adds one right now
            return []


def _missing(latest: ResourceSnapshot | None, stretch: Stretch | None, told: Mapping[str, Trend]) -> str | None:
    """Say what keeps an analysis from a verdict; None if nothing does."""
    if latest is None:
        return _TOO_FEW
    if stretch is None and all(one.verdict is Verdict.INSUFFICIENT for one in told.values()):
        return _BLIND
    return None


def _type_changes(series: list[ResourceSnapshot]) -> list[dict[str, Any]]:
    counted = [one.object_types for one in series if one.object_types is not None]
    return analysis.type_changes(counted[0], counted[-1]) if counted else []


_detectors: dict[str, LeakDetector] = {}


def get_leak_detector(name: str = "default") -> LeakDetector:
    """Return the process's detector of that name, made when it is first asked for."""
    return _detectors.setdefault(name, LeakDetector(name))


def cleanup_detectors() -> None:
    """Forget every detector that `get_leak_detector` made, and what it noted."""
    while _detectors:
        _detectors.popitem()[1].clear()

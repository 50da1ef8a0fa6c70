"""From a baseline, the snapshots since and the suspected handles to a verdict, as data."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import format_span_id, format_trace_id

from crawlo_otel_leaks import owner, semconv, sites
from crawlo_otel_leaks.growth import grew
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.snapshots import MB, METRICS
from crawlo_otel_leaks.trends import Trend, Verdict, trend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crawlo_otel_leaks.model import Handle, Site
    from crawlo_otel_leaks.snapshots import ResourceSnapshot
    from crawlo_otel_leaks.vitals import Point

    Suspects = Sequence[tuple[Handle, Reason]]
    Series = Sequence[tuple[float, float]]

HEALTHY: Final = "healthy"
LEAKING: Final = "leak_detected"
UNKNOWN: Final = "insufficient_data"
CROWD: Final = 5
"""So many handles of a type are severe, whatever the reason."""
SITES: Final = 20
"""Sites named of a type."""
TYPES: Final = 10
"""Object types named."""
LEAST: Final = 0.01
"""Part of itself that memory, or the number of objects, must have grown by."""
_CERTAIN: Final = (Reason.ABANDONED, Reason.LOOP_CLOSED)
_TYPES: Final = {
    semconv.FILE: "file_descriptors",
    semconv.SOCKET: "sockets",
    semconv.HTTP_SESSION: "http_sessions",
    semconv.HTTP_CONNECTION: "http_connections",
    semconv.REDIS_CONNECTION: "redis_connections",
    semconv.DB_CONNECTION: "db_connections",
    semconv.THREAD: "threads",
    semconv.TASK: "tasks",
    semconv.SUBPROCESS: "subprocesses",
    semconv.CUSTOM: "resources",
}
"""What the handles of a kind are called in an analysis."""
_VITALS: Final = {"memory_mb": "rss", "file_descriptors": "fds", "threads": "threads", "tasks": "tasks"}
"""What the detector's own series, which goes on between the snapshots, has too."""


def changes(first: ResourceSnapshot | None, latest: ResourceSnapshot | None) -> dict[str, float | None]:
    """Return by how much each metric differs; None where one of the two is not known, 0 without snapshots."""
    if first is None or latest is None:
        return dict.fromkeys(("memory_mb", "memory_percent", "objects", "objects_percent", *METRICS), 0)
    told: dict[str, float | None] = {}
    for name in METRICS:
        before, after = first.metric(name), latest.metric(name)
        told[name] = None if before is None or after is None else round(after - before, 2)
        if name in ("memory_mb", "objects"):
            told[f"{name.removesuffix('_mb')}_percent"] = _percent(before, told[name])
    return told


def type_changes(first: Mapping[str, int] | None, latest: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """Return the types of which there are more objects, by more than an estimate may err, the fastest first."""
    if first is None or latest is None:
        return []
    grown = [(count - first.get(name, 0), name) for name, count in latest.items()]
    return [
        {
            "type": name,
            "old_count": first.get(name, 0),
            "new_count": latest[name],
            "growth": growth,
            "growth_percent": _percent(first.get(name, 0), growth),
        }
        for growth, name in sorted(grown, reverse=True)
        if grew(first.get(name, 0), latest[name])
    ][:TYPES]


def trends(snapshots: Sequence[ResourceSnapshot], points: Iterable[Point]) -> dict[str, Trend]:
    """Tell of each metric whether it grows, over the snapshots and what the detector saw between them."""
    beside = list(points)
    told = {}
    for name in METRICS:
        series = [(one.at, one.metric(name)) for one in snapshots]
        if name in _VITALS:
            scale = MB if name == "memory_mb" else 1
            series += [(one.at, _scaled(getattr(one, _VITALS[name]), scale)) for one in beside]
        known = sorted((at, float(value)) for at, value in series if value is not None)
        told[name] = trend(known, least=LEAST if name in ("memory_mb", "objects") else 0.0)
    return told


def potential_leaks(
    suspects: Suspects,
    growing: Mapping[str, Trend],
    changed: Mapping[str, float | None],
    threshold_mb: float,
    now: float,
) -> list[dict[str, Any]]:
    """Return what leaks by type: handles by the sites that acquired them, and what grows beyond coincidence."""
    by_type: defaultdict[str, list[tuple[Handle, Reason]]] = defaultdict(list)
    for handle, reason in suspects:
        by_type[_TYPES[handle.kind]].append((handle, reason))
    # Objects alone are what a crawl remembers; they say more about memory that grows.
    leaks = {name: _held(name, some, now) for name, some in by_type.items()}
    for name, told in growing.items():
        growth = changed.get(name) or 0
        enough = growth > threshold_mb if name == "memory_mb" else name != "objects" or "memory_mb" in leaks
        if told.verdict is Verdict.GROWING and enough:
            entry = leaks.setdefault(name, {"type": name, "severity": "medium", "growth": growth, "sites": []})
            entry["growth_per_second"] = float(f"{told.slope:.4g}")
            entry["confidence"] = round(told.confidence, 4)
    return [_with_memory(entry, changed, threshold_mb) for entry in leaks.values()]


def _with_memory(entry: dict[str, Any], changed: Mapping[str, float | None], threshold_mb: float) -> dict[str, Any]:
    """Call memory what Crawlo calls it."""
    if entry["type"] != "memory_mb":
        return entry
    growth = entry.pop("growth")
    severity = "high" if growth > 2 * threshold_mb else "medium"
    told = {"type": "memory", "severity": severity, "growth_mb": growth, "growth_percent": changed["memory_percent"]}
    return {**entry, **told}


def _held(name: str, suspects: Suspects, now: float) -> dict[str, Any]:
    severe = len(suspects) >= CROWD or any(reason in _CERTAIN for _, reason in suspects)
    by_site: defaultdict[tuple[Site, Reason], list[Handle]] = defaultdict(list)
    for handle, reason in suspects:
        by_site[handle.site, reason].append(handle)
    largest = sorted(by_site.items(), key=lambda item: -len(item[1]))[:SITES]
    return {
        "type": name,
        "severity": "high" if severe else "medium",
        "growth": len(suspects),
        "sites": [_site(reason, handles, now) for (_, reason), handles in largest],
    }


def _site(reason: Reason, handles: list[Handle], now: float) -> dict[str, Any]:
    first = handles[0]
    place, by = sites.place(first.site), owner.describe(first)
    return {
        "kind": first.kind,
        "name": first.label(),
        "count": len(handles),
        "reason": reason.value,
        "held_s": round(max((one.released_at or now) - one.acquired_at for one in handles), 3),
        "function": place.function,
        "file": place.file,
        "line": place.line,
        "task": by.task,
        "thread": by.thread,
        "trace_id": format_trace_id(by.span.trace_id) if by.span else None,
        "span_id": format_span_id(by.span.span_id) if by.span else None,
    }


def _percent(before: float | None, growth: float | None) -> float | None:
    return round(growth / before * 100, 2) if before and growth is not None else None


def _scaled(value: float | None, scale: int) -> float | None:
    return None if value is None else value / scale

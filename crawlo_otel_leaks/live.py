"""What is held right now, by line, kind and verdict: plain data for `crawlo-leaks top`."""

from __future__ import annotations

import os
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import format_trace_id

from crawlo_otel_leaks import owner, semconv, sites
from crawlo_otel_leaks.model import Reason

if TYPE_CHECKING:
    from crawlo_otel_leaks.detector import Detector
    from crawlo_otel_leaks.model import Frame, Handle, Site
    from crawlo_otel_leaks.vitals import Vitals

ROWS: Final = 200
"""Rows of a table, those of leaks and of most handles first."""
LOOK: Final = 50_000
"""Handles looked at for one table, the oldest of each kind first."""


def table(detector: Detector, vitals: Vitals) -> dict[str, Any]:
    """Return the table as of now. `age_s` is the oldest handle's of a row, in seconds; call it between two ticks."""
    tracker = detector.tracker
    now = tracker.clock()
    rows = _rows(detector, now)
    latest = vitals.latest
    return {
        "schema": semconv.LIVE_SCHEMA,
        "pid": os.getpid(),
        "command": sys.argv[0] if sys.argv else "",
        "at": time.time(),
        "handles": {kind: count for kind in semconv.KINDS if (count := tracker.count(kind))},
        "process": {
            "rss": latest.rss if latest else None,
            "fds": latest.fds if latest else None,
            "threads": latest.threads if latest else None,
            "tasks": latest.tasks if latest else None,
            "unattributed": vitals.numbers.get(semconv.METRIC_FD_UNATTRIBUTED),
        },
        "rows": rows[:ROWS],
        "left_out": sum(row["count"] for row in rows[ROWS:]) + max(0, sum(map(tracker.count, semconv.KINDS)) - LOOK),
    }


def _rows(detector: Detector, now: float) -> list[dict[str, Any]]:
    places: dict[Site, Frame] = {}
    groups: dict[tuple[Frame, str, str], list[Handle]] = {}
    for handle in islice(detector.tracker.held(), LOOK):
        # Sites that differ in their callers alone are one line to whoever looks.
        place = places.get(handle.site) or places.setdefault(handle.site, sites.place(handle.site))
        groups.setdefault((place, handle.kind, _verdict(detector, handle)), []).append(handle)
    rows = [_row(handles, place, verdict, now) for (place, _, verdict), handles in groups.items()]
    rows.sort(key=lambda row: (not row["leak"], -row["count"], -row["age_s"]))
    return rows


def _verdict(detector: Detector, handle: Handle) -> str:
    reason = detector.verdict(handle)
    if reason is not None:
        return reason.value
    if handle.part_of is not None and handle.part_of.released_at is None:
        return f"part of {handle.part_of.kind}"
    return "process" if handle.process else ""


def _row(handles: list[Handle], place: Frame, verdict: str, now: float) -> dict[str, Any]:
    leak = verdict in {reason.value for reason in Reason if reason.is_leak}
    oldest = min(handles, key=lambda handle: handle.acquired_at)
    who = owner.describe(oldest)
    return {
        "kind": oldest.kind,
        "name": oldest.label(),
        "count": len(handles),
        "age_s": round(now - oldest.acquired_at, 3),
        "site": {"function": place.function, "file": place.file, "line": place.line},
        "owner": who.as_dict(),
        "trace_id": format_trace_id(who.span.trace_id) if who.span else None,
        "verdict": verdict,
        "leak": leak,
    }

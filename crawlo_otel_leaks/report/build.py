"""From the detector's findings to a report."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from opentelemetry.trace import format_span_id, format_trace_id

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.report.model import Entry, Report, Shortage, SpiderRun
from crawlo_otel_leaks.runs import HEALTHY, LEAKY, UNKNOWN

if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.trace import SpanContext

    from crawlo_otel_leaks.blame import Holders
    from crawlo_otel_leaks.findings import Findings
    from crawlo_otel_leaks.model import Finding, Frame
    from crawlo_otel_leaks.runs import Left, Run, Runs
    from crawlo_otel_leaks.shortages import Shortage as RanOut
    from crawlo_otel_leaks.shortages import Shortages
    from crawlo_otel_leaks.tracker import Tracker
    from crawlo_otel_leaks.vitals import Vitals


def build(findings: Findings, shortages: Shortages, vitals: Vitals, tracker: Tracker, runs: Runs) -> Report:
    """Return the report as of now: what counts as a leak first, and of that the strongest verdicts."""
    now = tracker.clock()
    entries = [_entry(finding, now) for finding in list(findings.by_key.values())]
    entries.sort(key=_order)
    return Report(
        status=_status(entries, findings.overflow),
        leaks=entries,
        handles={"by_kind": {kind: count for kind in semconv.KINDS if (count := tracker.count(kind))}},
        process=vitals.block(),
        generated_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_command(),
        left_out=findings.overflow,
        shortages=[_shortage(shortage) for shortage in list(shortages.by_name.values())],
        runs=_runs(runs, findings, tracker),
        runs_left_out=runs.left_out,
    )


def _order(entry: Entry) -> tuple[bool, int, int, str]:
    return (not entry.accused, Reason(entry.reason).strength, -entry.count, entry.fingerprint)


def _status(entries: list[Entry], left_out: int) -> str:
    if any(entry.accused for entry in entries):
        return "leak_detected"
    # What found no place may be slow, or a leak: nobody knows any more.
    return "insufficient_data" if left_out else "healthy"


def _command() -> str:
    """The program alone: its arguments may hold secrets."""
    return sys.argv[0] if sys.argv else ""


def _entry(finding: Finding, now: float) -> Entry:
    leak = finding.first
    return Entry(
        kind=leak.kind,
        reason=finding.reason.value,
        name=leak.name,
        held_s=round(finding.held(now), 3),
        count=finding.count,
        fingerprint=leak.fingerprint,
        site=_frame(leak.where),
        stack=[_frame(frame) for frame in leak.stack],
        owner=leak.owner.as_dict(),
        resolved=finding.resolved,
        holds=list(leak.holds),
        **_ids(leak.owner.span),
    )


def _shortage(shortage: RanOut) -> Shortage:
    newest = shortage.newest
    return Shortage(
        what=newest.what,
        kind=newest.kind,
        name=newest.name,
        held=newest.held,
        limit=newest.limit,
        waited_s=round(newest.waited, 3),
        count=shortage.count,
        holders=[_holders(group) for group in newest.holders],
        **_ids(newest.waiter if newest.waiter.is_valid else None),
    )


def _runs(runs: Runs, findings: Findings, tracker: Tracker) -> list[SpiderRun]:
    leaks, held = runs.leaks(findings), runs.open(tracker.held())
    return [_run(run, left, held.get(run, Counter())) for run, left in leaks.items()]


def _run(run: Run, left: Left, held: Counter[str]) -> SpiderRun:
    run.count_pages()
    fingerprints: Counter[str] = Counter()
    for (_, fingerprint), count in left.items():
        fingerprints[fingerprint] += count
    return SpiderRun(
        spider=run.spider,
        run_id=run.run_id,
        started=round(run.wall, 3),
        duration_s=None if run.duration is None else round(run.duration, 3),
        outcome=run.outcome,
        error=run.error,
        pages=run.pages,
        verdict=LEAKY if left else HEALTHY if run.judged != UNKNOWN else UNKNOWN,
        leaks=sum(left.values()),
        fingerprints=dict(fingerprints),
        open=dict(held),
        before=run.before._asdict(),
        after=run.after._asdict() if run.after else None,
        rss_peak=run.peak,
        **_ids(run.span.get_span_context() if run.span else None),
    )


def _holders(group: Holders) -> dict[str, Any]:
    return {
        "count": group.count,
        "held_s": round(group.oldest, 3),
        "where": group.where,
        "owner_finished": group.finished,
        **_ids(group.span),
    }


def _ids(span: SpanContext | None) -> dict[str, str | None]:
    return {
        "trace_id": format_trace_id(span.trace_id) if span else None,
        "span_id": format_span_id(span.span_id) if span else None,
    }


def _frame(frame: Frame) -> dict[str, str | int]:
    return {"function": frame.function, "file": frame.file, "line": frame.line, "text": frame.text}

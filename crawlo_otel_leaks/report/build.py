"""From the detector's findings to a report."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from opentelemetry.trace import format_span_id, format_trace_id

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.report.model import Entry, Report

if TYPE_CHECKING:
    from crawlo_otel_leaks.findings import Findings
    from crawlo_otel_leaks.model import Finding, Frame
    from crawlo_otel_leaks.tracker import Tracker


def build(findings: Findings, tracker: Tracker) -> Report:
    """Return the report as of now, strongest verdicts first."""
    known = sorted(findings.by_key.values(), key=lambda finding: (finding.first.reason.strength, -finding.count))
    now = tracker.clock()
    entries = [_entry(finding, now) for finding in known]
    accused = any(finding.first.reason.is_leak and not finding.resolved for finding in known)
    return Report(
        status="leak_detected" if accused else "healthy",
        leaks=entries,
        handles={"by_kind": {kind: tracker.count(kind) for kind in semconv.KINDS if tracker.count(kind)}},
        generated_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_command(),
    )


def _command() -> str:
    """The program alone: its arguments may hold secrets."""
    return sys.argv[0] if sys.argv else ""


def _ended(finding: Finding) -> bool:
    return finding.open == 0


def _entry(finding: Finding, now: float) -> Entry:
    leak = finding.first
    span = leak.owner.span
    where = leak.where
    return Entry(
        kind=leak.kind,
        reason=leak.reason.value,
        name=leak.name,
        held_s=round(finding.held_max if _ended(finding) else now - leak.acquired_at, 3),
        count=finding.count,
        fingerprint=leak.fingerprint,
        site=_frame(where),
        stack=[_frame(frame) for frame in leak.stack],
        trace_id=format_trace_id(span.trace_id) if span else None,
        span_id=format_span_id(span.span_id) if span else None,
        owner={
            "spider": leak.owner.spider,
            "run_id": leak.owner.run_id,
            "task": leak.owner.task,
            "thread": leak.owner.thread,
            "scope": leak.owner.scope,
        },
        resolved=finding.resolved,
    )


def _frame(frame: Frame) -> dict[str, str | int]:
    return {"function": frame.function, "file": frame.file, "line": frame.line, "text": frame.text}

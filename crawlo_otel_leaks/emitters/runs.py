"""A spider run as a span, an event and metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode

from crawlo_otel_leaks import runs, semconv
from crawlo_otel_leaks.emitters.attributes import printable
from crawlo_otel_leaks.emitters.metrics import BOUNDARIES
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from crawlo_otel_leaks.runs import Run

    Attributes = dict[str, str | int | float]

CAP: Final = 100
"""Spiders that have a name in metrics; more are `other`."""


class RunTelemetry:
    """Tells of runs: the span from beginning to end, the rest when the verdict is known."""

    def __init__(self) -> None:
        self._logger = _logs.get_logger(semconv.SCOPE, __version__)
        self._spiders: set[str] = set()
        meter = metrics.get_meter(semconv.SCOPE, __version__)
        self._count = meter.create_counter(semconv.METRIC_RUN_COUNT, "{run}", "Spider runs, by verdict.")
        self._pages = meter.create_counter(semconv.METRIC_RUN_PAGES, "{page}", "Pages that spider runs received.")
        self._leaks = meter.create_counter(semconv.METRIC_RUN_LEAKS, "{leak}", "Leaks of spider runs.")
        self._duration = meter.create_histogram(
            semconv.METRIC_RUN_DURATION,
            "s",
            "How long spider runs took.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )

    def begin(self, run: Run) -> Span:
        """Start `spider run`; by the program's own provider, so that its sampler decides."""
        tracer = trace.get_tracer(semconv.SCOPE, __version__)
        return tracer.start_span("spider run", attributes=_identity(run))

    def end(self, run: Run) -> None:
        """End the span with what is known by now: the verdict needs a grace, the span is no longer than the run."""
        span = run.span
        if span is None:
            return
        span.set_attributes(_ending(run))
        if run.error is not None:
            span.set_attribute(semconv.ERROR_TYPE, run.error)
            span.set_status(Status(StatusCode.ERROR, run.error))
        span.end()

    def judged(self, run: Run) -> None:
        """Write `crawlo.run.judged` in the context of the run's span, and count the run once."""
        spider = self._bounded(run.spider)
        for (kind, _), count in run.left.items():
            self._leaks.add(count, {**spider, semconv.HANDLE_KIND: kind})
        if not run.again:
            outcome = {**spider, semconv.RUN_OUTCOME: run.outcome}
            self._count.add(1, {**outcome, semconv.RUN_VERDICT: run.judged})
            self._pages.add(run.pages or 0, spider)
            self._duration.record(run.duration or 0.0, outcome)
        self._emit(run)

    def _emit(self, run: Run) -> None:
        severity = SeverityNumber.WARN if run.judged == runs.LEAKY else SeverityNumber.INFO
        context = Context()
        if run.span is not None and run.span.get_span_context().is_valid:
            context = trace.set_span_in_context(trace.NonRecordingSpan(run.span.get_span_context()), context)
        verdict: Attributes = {
            semconv.RUN_VERDICT: run.judged,
            semconv.RUN_LEAKS: sum(run.left.values()),
            semconv.RUN_DURATION: run.duration or 0.0,
        }
        self._logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                context=context,
                severity_number=severity,
                severity_text=severity.name,
                body=printable(_sentence(run)),
                attributes={**_identity(run), **_ending(run), **verdict},
                event_name=semconv.RUN_JUDGED,
            ),
        )

    def _bounded(self, spider: str) -> Attributes:
        if len(self._spiders) < CAP:
            self._spiders.add(spider)
        return {semconv.SPIDER_NAME: printable(spider) if spider in self._spiders else semconv.OTHER}


def _identity(run: Run) -> Attributes:
    return {semconv.SPIDER_NAME: printable(run.spider), semconv.RUN_ID: run.run_id}


def _ending(run: Run) -> Attributes:
    after = run.after.rss if run.after else None
    known: dict[str, str | int | None] = {
        semconv.RUN_OUTCOME: run.outcome,
        semconv.RUN_PAGES: run.pages,
        semconv.RUN_HELD: run.held,
        semconv.RUN_MEMORY_BEFORE: run.before.rss,
        semconv.RUN_MEMORY_AFTER: after,
    }
    return {key: value for key, value in known.items() if value is not None}


def _sentence(run: Run) -> str:
    kinds: dict[str, int] = {}
    for (kind, _), count in run.left.items():
        kinds[kind] = kinds.get(kind, 0) + count
    left = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    return f"spider {run.spider} {run.outcome} after {run.duration or 0.0:.1f} s and left {left} behind: {run.judged}"

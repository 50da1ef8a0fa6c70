"""Leaks as log events: the carrier that no trace sampler drops."""

from __future__ import annotations

import time
import weakref
from itertools import chain
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.emitters import attributes
from crawlo_otel_leaks.emitters.clock import wall_ns
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import SpanContext

    from crawlo_otel_leaks.blame import Exhaustion
    from crawlo_otel_leaks.growth import Grown
    from crawlo_otel_leaks.model import Finding, Handle, Leak


class Logs:
    """A sink that writes one event for a new finding, and another whenever its count gained a digit."""

    def __init__(self) -> None:
        self._logger = _logs.get_logger(semconv.SCOPE, __version__)
        self._announced: weakref.WeakSet[Leak] = weakref.WeakSet()

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Write `crawlo.leak.detected` in the context of the acquiring span."""
        if not leak.reason.is_leak or finding.count < 10**finding.announced:
            return
        finding.announced += 1
        self._announced.add(leak)
        frame = leak.where
        taken = f"acquired at {frame.file}:{frame.line}"
        text = f"{leak.kind} {leak.name} {leak.reason.value}, held {leak.held:.1f} s, {taken}"
        self._leak(semconv.LEAK_DETECTED, leak, finding.count, text)

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Write `crawlo.leak.resolved` for a leak that was announced."""
        if leak in self._announced:
            self._announced.discard(leak)
            text = f"{leak.kind} {leak.name} released after {leak.held:.1f} s"
            self._leak(semconv.LEAK_RESOLVED, leak, finding.count, text)

    def released(self, handles: Sequence[Handle]) -> None:
        """Nothing: what was given back in time is no event."""

    def exhausted(self, exhaustion: Exhaustion) -> None:
        """Write `crawlo.pool.exhausted` in the context of the waiter's span."""
        waiter = exhaustion.waiter if exhaustion.waiter.is_valid else None
        self._emit(semconv.POOL_EXHAUSTED, time.time_ns(), waiter, str(exhaustion), exhaustion.attributes())

    def grown(self, grown: Grown) -> None:
        """Write `crawlo.memory.growth`, which belongs to no span."""
        told = attributes.of_growth(grown)
        first = next(chain(told[semconv.MEMORY_SITES], told[semconv.MEMORY_TYPES]), "nothing that Python allocates")
        text = f"memory grows: in {grown.seconds:.0f} s most by {first}"
        self._emit(semconv.MEMORY_GROWTH, time.time_ns(), None, text, told)

    def _leak(self, event: str, leak: Leak, count: int, text: str) -> None:
        at = wall_ns(leak.resolved_at or leak.detected_at)
        self._emit(event, at, leak.owner.span, text, attributes.of_leak(leak, count))

    def _emit(self, event: str, at: int, span: SpanContext | None, text: str, told: Mapping[str, Any]) -> None:
        """Write an event of `at` ns since 1970, in the context of a span."""
        context = Context()
        if span is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(span), context)
        self._logger.emit(
            LogRecord(
                timestamp=at,
                context=context,
                severity_number=SeverityNumber.WARN,
                severity_text=SeverityNumber.WARN.name,
                body=attributes.printable(text),
                attributes=dict(told),
                event_name=event,
            ),
        )

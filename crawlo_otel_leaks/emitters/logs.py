"""Leaks as log events: the carrier that no trace sampler drops."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from opentelemetry import _logs, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.emitters import attributes
from crawlo_otel_leaks.emitters.clock import wall_ns
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlo_otel_leaks.blame import Exhaustion
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
        self._emit(semconv.LEAK_DETECTED, leak, finding.count, text, SeverityNumber.WARN)

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Write `crawlo.leak.resolved` for a leak that was announced."""
        if leak in self._announced:
            self._announced.discard(leak)
            text = f"{leak.kind} {leak.name} released after {leak.held:.1f} s"
            self._emit(semconv.LEAK_RESOLVED, leak, finding.count, text, SeverityNumber.WARN)

    def released(self, handles: Sequence[Handle]) -> None:
        """Nothing: what was given back in time is no event."""

    def exhausted(self, exhaustion: Exhaustion) -> None:
        """Write `crawlo.pool.exhausted` in the context of the waiter's span."""
        context = Context()
        if exhaustion.waiter.is_valid:
            context = trace.set_span_in_context(trace.NonRecordingSpan(exhaustion.waiter), context)
        self._logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                context=context,
                severity_number=SeverityNumber.WARN,
                severity_text=SeverityNumber.WARN.name,
                body=attributes.printable(str(exhaustion)),
                attributes=exhaustion.attributes(),
                event_name=semconv.POOL_EXHAUSTED,
            ),
        )

    def _emit(self, event: str, leak: Leak, count: int, text: str, severity: SeverityNumber) -> None:
        context = Context()
        if leak.owner.span is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(leak.owner.span), context)
        self._logger.emit(
            LogRecord(
                timestamp=wall_ns(leak.resolved_at or leak.detected_at),
                context=context,
                severity_number=severity,
                severity_text=severity.name,
                body=attributes.printable(text),
                attributes=attributes.of_leak(leak, count),
                event_name=event,
            ),
        )

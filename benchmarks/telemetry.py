"""Real providers with a reader and batching processors, as a program has them, and an exporter that throws all away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord


class NoSpans(SpanExporter):
    """Throws spans away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Throw them away."""
        del spans
        return SpanExportResult.SUCCESS


class NoLogs(LogRecordExporter):
    """Throws log records away."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Throw them away."""
        del batch
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to end."""

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing to flush."""
        del timeout_millis
        return True


def set_up() -> InMemoryMetricReader:
    """Set the providers of all three signals; return what collects the metrics."""
    tracers, loggers, reader = TracerProvider(), LoggerProvider(), InMemoryMetricReader()
    tracers.add_span_processor(BatchSpanProcessor(NoSpans()))
    loggers.add_log_record_processor(BatchLogRecordProcessor(NoLogs()))
    trace.set_tracer_provider(tracers)
    _logs.set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader

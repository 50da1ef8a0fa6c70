"""Telemetry as processes under crawlo_otel_leaks send it, made up: for loads of more than one machine."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

STACK = "Acquired at (most recent call last):\n" + "".join(
    f"  /srv/shop/app/layer_{depth}.py:{10 * depth} in step_{depth}\n    result = await self.step_{depth}(request)\n"
    for depth in range(20)
)


def value(plain: Any) -> AnyValue:
    if isinstance(plain, str):
        return AnyValue(string_value=plain)
    return AnyValue(double_value=plain) if isinstance(plain, float) else AnyValue(int_value=plain)


def attributes(plain: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(one)) for key, one in plain.items()]


def resource(number: int, service: str = "shop", hosts: int = 10) -> Resource:
    """Process `number` of a fleet."""
    told = {
        "service.name": service,
        "service.instance.id": f"{service}-{number}",
        "host.name": f"host-{number % hosts}",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": "1.45.1",
        "telemetry.auto.version": "0.66b1",
    }
    return Resource(attributes=attributes(told))


def leak_attributes(number: int, fingerprint: str = "6dca3a5133fbe001", count: int = 1) -> dict[str, Any]:
    return {
        semconv.HANDLE_KIND: semconv.HTTP_SESSION,
        semconv.HANDLE_NAME: "ClientSession",
        semconv.HANDLE_ID: number,
        semconv.LEAK_REASON: "owner_finished",
        semconv.LEAK_FINGERPRINT: fingerprint,
        semconv.LEAK_HELD: 35.0,
        semconv.LEAK_COUNT: count,
        semconv.CODE_STACKTRACE: STACK,
        semconv.ERROR_TYPE: "owner_finished",
        semconv.CODE_FUNCTION_NAME: "fetch",
        semconv.CODE_FILE_PATH: "/srv/shop/app/views.py",
        semconv.CODE_LINE_NUMBER: 42,
        semconv.THREAD_NAME: "MainThread",
    }


def span(name: str, trace_id: bytes, parent: bytes = b"", seconds: float = 0.1, **told: Any) -> trace_pb2.Span:
    now = time.time_ns()
    return trace_pb2.Span(
        trace_id=trace_id,
        span_id=os.urandom(8),
        parent_span_id=parent,
        name=name,
        kind=trace_pb2.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=now - int(seconds * 1e9),
        end_time_unix_nano=now,
        attributes=attributes(told),
    )


def page(trace_id: bytes, parent: bytes = b"") -> trace_pb2.Span:
    """An ordinary span, as a web framework's or a client's instrumentation writes them."""
    told = {
        "http.request.method": "GET",
        "url.full": "https://shop.example/catalogue/page-17.html",
        "http.response.status_code": 200,
        "server.address": "shop.example",
        "server.port": 443,
        "user_agent.original": "crawlo/1.7",
    }
    return span("GET /catalogue/{page}", trace_id, parent, **told)


def leak(trace_id: bytes, parent: bytes, number: int = 1, fingerprint: str = "6dca3a5133fbe001") -> trace_pb2.Span:
    made = span("leak http.session", trace_id, parent, 35.0, **leak_attributes(number, fingerprint))
    made.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    return made


def traces(source: Resource, spans: Sequence[trace_pb2.Span]) -> trace_service_pb2.ExportTraceServiceRequest:
    scope = trace_pb2.ScopeSpans(scope=InstrumentationScope(name=semconv.SCOPE), spans=spans)
    return trace_service_pb2.ExportTraceServiceRequest(
        resource_spans=[trace_pb2.ResourceSpans(resource=source, scope_spans=[scope])]
    )


def event(trace_id: bytes, span_id: bytes, number: int, fingerprint: str = "6dca3a5133fbe001") -> logs_pb2.LogRecord:
    return logs_pb2.LogRecord(
        time_unix_nano=time.time_ns(),
        severity_number=logs_pb2.SEVERITY_NUMBER_WARN,
        event_name=semconv.LEAK_DETECTED,
        body=value("http.session ClientSession owner_finished, held 35.0 s"),
        attributes=attributes(leak_attributes(number, fingerprint)),
        trace_id=trace_id,
        span_id=span_id,
    )


def logs(source: Resource, records: Sequence[logs_pb2.LogRecord]) -> logs_service_pb2.ExportLogsServiceRequest:
    scope = logs_pb2.ScopeLogs(scope=InstrumentationScope(name=semconv.SCOPE), log_records=records)
    return logs_service_pb2.ExportLogsServiceRequest(
        resource_logs=[logs_pb2.ResourceLogs(resource=source, scope_logs=[scope])]
    )


def _sum(name: str, unit: str, points: list[tuple[dict[str, Any], int]], *, monotonic: bool) -> metrics_pb2.Metric:
    now = time.time_ns()
    made = [
        metrics_pb2.NumberDataPoint(
            attributes=attributes(told), start_time_unix_nano=now - 10**9, time_unix_nano=now, as_int=number
        )
        for told, number in points
    ]
    cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    data = metrics_pb2.Sum(data_points=made, aggregation_temporality=cumulative, is_monotonic=monotonic)
    return metrics_pb2.Metric(name=name, unit=unit, sum=data)


def _gauge(name: str, unit: str, points: list[tuple[dict[str, Any], float]]) -> metrics_pb2.Metric:
    now = time.time_ns()
    made = [
        metrics_pb2.NumberDataPoint(attributes=attributes(told), time_unix_nano=now, as_double=number)
        for told, number in points
    ]
    return metrics_pb2.Metric(name=name, unit=unit, gauge=metrics_pb2.Gauge(data_points=made))


def metrics(source: Resource, fingerprints: int) -> metrics_service_pb2.ExportMetricsServiceRequest:
    """What a process exports once: every kind, two pools, so many fingerprints."""
    kinds = [{semconv.HANDLE_KIND: kind} for kind in semconv.KINDS]
    pools = [{semconv.POOL_NAME: f"10.0.0.{number}:5432/shop"} for number in range(2)]
    leaks = [
        {
            semconv.HANDLE_KIND: semconv.FILE,
            semconv.LEAK_REASON: "abandoned",
            semconv.LEAK_FINGERPRINT: f"{number:016x}",
        }
        for number in range(fingerprints)
    ]
    states = [{**pool, semconv.POOL_STATE: state} for pool in pools for state in ("idle", "used")]
    made = [
        _sum(semconv.METRIC_HANDLE_COUNT, "{handle}", [(one, 3) for one in kinds], monotonic=False),
        _gauge(semconv.METRIC_HANDLE_AGE_MAX, "s", [(one, 30.0) for one in kinds]),
        _sum(semconv.METRIC_LEAK_OPEN, "{leak}", [(one, 0) for one in kinds], monotonic=False),
        _sum(semconv.METRIC_LEAK_COUNT, "{leak}", [(one, 1) for one in leaks], monotonic=True),
        _sum(semconv.METRIC_POOL_COUNT, "{connection}", [(one, 3) for one in states], monotonic=False),
        _sum(semconv.METRIC_POOL_MAX, "{connection}", [(one, 10) for one in pools], monotonic=False),
        _sum(semconv.METRIC_POOL_PENDING, "{request}", [(one, 0) for one in pools], monotonic=False),
        _gauge(semconv.METRIC_FD_UNATTRIBUTED, "{file_descriptor}", [({}, 5.0)]),
        _gauge(semconv.METRIC_TRACKER_BYTES, "By", [({}, 1e6)]),
        _gauge(semconv.METRIC_TRACKER_ERRORS, "{error}", [({}, 0.0)]),
        _gauge(semconv.METRIC_TRACKER_DROPPED, "{handle}", [({}, 0.0)]),
        _gauge(semconv.METRIC_TRACKER_IGNORED, "{handle}", [({}, 2.0)]),
        _gauge(semconv.METRIC_TRACKER_SAMPLING, "1", [({}, 1.0)]),
    ]
    scope = metrics_pb2.ScopeMetrics(scope=InstrumentationScope(name=semconv.SCOPE), metrics=made)
    return metrics_service_pb2.ExportMetricsServiceRequest(
        resource_metrics=[metrics_pb2.ResourceMetrics(resource=source, scope_metrics=[scope])]
    )


class Sender:
    """Sends requests to a collector by gRPC; each call returns once they are accepted."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.traces = trace_service_pb2_grpc.TraceServiceStub(self._channel).Export
        self.logs = logs_service_pb2_grpc.LogsServiceStub(self._channel).Export
        self.metrics = metrics_service_pb2_grpc.MetricsServiceStub(self._channel).Export

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

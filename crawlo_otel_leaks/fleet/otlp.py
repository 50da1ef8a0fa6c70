"""Leaks out of OTLP JSON, one request a line, as the collector's file exporter writes it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.fleet.sighting import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS: Final = ("resourceSpans", "resourceLogs", "resourceMetrics")
_PLAIN: Final = {"stringValue": str, "intValue": int, "doubleValue": float, "boolValue": bool}


def is_request(data: object) -> bool:
    """Whether decoded JSON is an OTLP request."""
    return isinstance(data, dict) and any(isinstance(data.get(signal), list) for signal in _SIGNALS)


def sightings(line: str) -> Iterator[Sighting]:
    """Yield each leak that one line tells; raise ValueError if it is no OTLP request in JSON."""
    data = json.loads(line)
    if not is_request(data):
        raise ValueError("found no OTLP request, expected an object with one of " + ", ".join(_SIGNALS))
    try:
        yield from _of_spans(data)
        yield from _of_logs(data)
        yield from _of_metrics(data)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"found OTLP of another shape: {error!r}") from error


def _of_spans(data: dict[str, Any]) -> Iterator[Sighting]:
    for source, span in _items(data, "resourceSpans", "scopeSpans", "spans"):
        told = _attributes(span)
        if semconv.LEAK_REASON in told:
            # Below the acquiring span, which is the one to look at: it is there even where leak spans are off.
            ids = (span.get("traceId", ""), span.get("parentSpanId", ""))
            yield _sighting(source, told, int(span.get("endTimeUnixNano", 0)), ids)


def _of_logs(data: dict[str, Any]) -> Iterator[Sighting]:
    for source, record in _items(data, "resourceLogs", "scopeLogs", "logRecords"):
        event = record.get("eventName")
        if event in (semconv.LEAK_DETECTED, semconv.LEAK_RESOLVED):
            ids = (record.get("traceId", ""), record.get("spanId", ""))
            seen = _sighting(source, _attributes(record), int(record.get("timeUnixNano", 0)), ids)
            yield replace(seen, resolved=event == semconv.LEAK_RESOLVED)


def _of_metrics(data: dict[str, Any]) -> Iterator[Sighting]:
    for source, metric in _items(data, "resourceMetrics", "scopeMetrics", "metrics"):
        if metric.get("name") != semconv.METRIC_LEAK_COUNT:
            continue
        for point in metric.get("sum", {}).get("dataPoints", ()):
            told = _attributes(point)
            if told.get(semconv.LEAK_FINGERPRINT) != semconv.OTHER:
                # When it was exported, not when it was seen: a counter is told again with every export.
                told[semconv.LEAK_COUNT] = int(point.get("asInt", 0))
                yield _sighting(source, told, 0, ("", ""))


def _items(data: dict[str, Any], resources: str, scopes: str, name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    for group in data.get(resources, ()):
        source = _attributes(group.get("resource", {}))
        for scope in group.get(scopes, ()):
            for item in scope.get(name, ()):
                yield source, item


def _attributes(item: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in item.get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:  # noqa: ANN401  (what an attribute may be)
    for name, plain in _PLAIN.items():
        if name in value:
            return plain(value[name])
    return None


def _sighting(source: dict[str, Any], told: dict[str, Any], seen_ns: int, ids: tuple[str, str]) -> Sighting:
    host = str(source.get("host.name", ""))
    service = str(source.get("service.name", ""))
    named = source.get("service.instance.id") or f"{host}:{source.get('process.pid', '')}:{service}"
    return Sighting(
        fingerprint=str(told[semconv.LEAK_FINGERPRINT]),
        reason=str(told[semconv.LEAK_REASON]),
        kind=str(told[semconv.HANDLE_KIND]),
        process=str(named),
        host=host,
        service=service,
        seen_ns=seen_ns,
        count=int(told.get(semconv.LEAK_COUNT, 1)),
        handle=told.get(semconv.HANDLE_ID),
        place=_place(told),
        trace_id=ids[0],
        span_id=ids[1],
    )


def _place(told: dict[str, Any]) -> str:
    if semconv.CODE_FILE_PATH not in told:
        return ""
    line, function = told.get(semconv.CODE_LINE_NUMBER, 0), told.get(semconv.CODE_FUNCTION_NAME, "?")
    return f"{told[semconv.CODE_FILE_PATH]}:{line} in {function}"

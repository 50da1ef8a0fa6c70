"""Handles and leaks as metrics. Instruments are made at the start; callbacks only read numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions

    from crawlo_otel_leaks.model import Finding, Handle, Leak
    from crawlo_otel_leaks.numbers import Numbers

    Series = Callable[[], Iterable[Observation]]


class Metrics:
    """A sink that counts leaks and records holds, and the gauges beside it."""

    def __init__(self, numbers: Numbers) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__)
        self._fingerprints: set[str] = set()
        self._leaks = meter.create_counter(
            semconv.METRIC_LEAK_COUNT,
            "{leak}",
            "Leaks detected, by fingerprint.",
        )
        self._durations = meter.create_histogram(
            semconv.METRIC_HANDLE_DURATION,
            "s",
            "How long handles were held.",
        )
        meter.create_observable_up_down_counter(
            semconv.METRIC_HANDLE_COUNT,
            [_callback(lambda: _by_kind(numbers.held))],
            "{handle}",
            "Handles held now.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_HANDLE_AGE_MAX,
            [_callback(lambda: _by_kind(numbers.oldest))],
            "s",
            "Age of the oldest handle.",
        )
        meter.create_observable_up_down_counter(
            semconv.METRIC_LEAK_OPEN,
            [_callback(lambda: _by_kind(numbers.open))],
            "{leak}",
            "Leaked handles that are still held.",
        )
        for name, unit, text, read in numbers.own():
            meter.create_observable_gauge(name, [_callback(_reading(read))], unit, text)

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Count the leak."""
        del finding
        if leak.reason.is_leak:
            self._leaks.add(
                1,
                {
                    semconv.HANDLE_KIND: leak.kind,
                    semconv.LEAK_REASON: leak.reason.value,
                    semconv.LEAK_FINGERPRINT: self._bounded(leak.fingerprint),
                },
            )

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Nothing: `crawlo.leak.open` shows it."""

    def released(self, handles: Sequence[Handle]) -> None:
        """Record how long they were held."""
        for handle in handles:
            held = (handle.released_at or handle.acquired_at) - handle.acquired_at
            self._durations.record(held, {semconv.HANDLE_KIND: handle.kind})

    def _bounded(self, fingerprint: str) -> str:
        if len(self._fingerprints) < semconv.FINGERPRINT_CAP:
            self._fingerprints.add(fingerprint)
        return fingerprint if fingerprint in self._fingerprints else semconv.OTHER


def _callback(series: Series) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: series()


def _reading(read: Callable[[], float]) -> Series:
    return lambda: [Observation(read())]


def _by_kind(values: dict[str, float]) -> list[Observation]:
    return [Observation(value, {semconv.HANDLE_KIND: kind}) for kind, value in values.items()]

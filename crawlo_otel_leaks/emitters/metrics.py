"""Handles and leaks as metrics. Instruments are made at the start; callbacks only read numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.durations import Batch
from crawlo_otel_leaks.emitters import histograms
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter

    from crawlo_otel_leaks.model import Finding, Handle, Leak
    from crawlo_otel_leaks.numbers import Numbers
    from crawlo_otel_leaks.tracker import Tracker


BOUNDARIES: Final = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
"""Seconds; the SDK's own default buckets are made for milliseconds."""
_OWN: Final = (
    (semconv.METRIC_TRACKER_BYTES, "By", "Estimated memory of the tracker."),
    (semconv.METRIC_TRACKER_DROPPED, "{handle}", "Releases not examined."),
    (semconv.METRIC_TRACKER_ERRORS, "{error}", "Failures of the tracker itself."),
    (semconv.METRIC_TRACKER_IGNORED, "{handle}", "Handles of telemetry itself."),
    (semconv.METRIC_TRACKER_SAMPLING, "1", "Part of acquisitions whose whole stack is taken."),
)
_PROCESS: Final = (
    (semconv.METRIC_FD_UNATTRIBUTED, "{file_descriptor}", "Open descriptors that no handle explains."),
    (semconv.METRIC_FD_ETA, "s", "When the descriptors will be used up at their present trend."),
)


class _Shown:
    """Whose numbers the callbacks read: an instrument, once made, keeps its first callbacks for good."""

    numbers: Numbers


class Metrics:
    """A sink that counts leaks and records holds, and the gauges beside it."""

    def __init__(self, numbers: Numbers) -> None:
        _Shown.numbers = numbers
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
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        _make_gauges(meter)

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
        by_kind: dict[str, list[float]] = {}
        for handle in handles:
            by_kind.setdefault(handle.kind, []).append(handle.held)
        for kind, held in by_kind.items():
            histograms.record(self._durations, Batch(held), {semconv.HANDLE_KIND: kind})

    def update(self, tracker: Tracker) -> None:
        """Record the holds that were too brief to be told one by one."""
        for kind, counted in tracker.brief_holds.items():
            histograms.record(self._durations, counted.take(), {semconv.HANDLE_KIND: kind})

    def _bounded(self, fingerprint: str) -> str:
        if len(self._fingerprints) < semconv.FINGERPRINT_CAP:
            self._fingerprints.add(fingerprint)
        return fingerprint if fingerprint in self._fingerprints else semconv.OTHER


def _make_gauges(meter: Meter) -> None:
    meter.create_observable_up_down_counter(
        semconv.METRIC_HANDLE_COUNT,
        [lambda _: _by_kind(_Shown.numbers.held)],
        "{handle}",
        "Handles held now.",
    )
    meter.create_observable_gauge(
        semconv.METRIC_HANDLE_AGE_MAX,
        [lambda _: _by_kind(_Shown.numbers.oldest)],
        "s",
        "Age of the oldest handle.",
    )
    meter.create_observable_up_down_counter(
        semconv.METRIC_LEAK_OPEN,
        [lambda _: _by_kind(_Shown.numbers.open)],
        "{leak}",
        "Leaked handles that are still held.",
    )
    for name, unit, text in _OWN:
        meter.create_observable_gauge(name, [_reading(name)], unit, text)
    for name, unit, text in _PROCESS:
        meter.create_observable_gauge(name, [_known(name)], unit, text)


def _reading(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(_Shown.numbers.own[name])]


def _known(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(value) for key, value in _Shown.numbers.process.items() if key == name]


def _by_kind(values: dict[str, float]) -> list[Observation]:
    return [Observation(value, {semconv.HANDLE_KIND: kind}) for kind, value in values.items()]

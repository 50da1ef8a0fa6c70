"""Connection pools as the metrics of the semantic conventions, and when each will be empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.emitters import histograms
from crawlo_otel_leaks.emitters.metrics import BOUNDARIES
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions

    from crawlo_otel_leaks.durations import Batch
    from crawlo_otel_leaks.findings import Findings
    from crawlo_otel_leaks.model import Finding, Handle, Leak
    from crawlo_otel_leaks.pool import Pool, Pools

CAP: Final = 100
"""Pools that have a name in metrics; more are `other`."""
_GAUGES: Final = (
    (semconv.METRIC_POOL_COUNT, "{connection}", "Connections by state."),
    (semconv.METRIC_POOL_IDLE_MAX, "{connection}", "Most idle connections allowed."),
    (semconv.METRIC_POOL_IDLE_MIN, "{connection}", "Fewest idle connections kept."),
    (semconv.METRIC_POOL_MAX, "{connection}", "Most connections allowed."),
    (semconv.METRIC_POOL_PENDING, "{request}", "Requests waiting for a connection."),
)
_TIMES: Final = (
    (semconv.METRIC_POOL_CREATE_TIME, "How long a new connection took."),
    (semconv.METRIC_POOL_WAIT_TIME, "How long it took to get a connection."),
    (semconv.METRIC_POOL_USE_TIME, "How long a connection was out."),
)


class _Row(NamedTuple):
    """One observation, made at a tick and read by a callback."""

    metric: str
    value: float
    attributes: dict[str, str]


class _Shown:
    """What callbacks read: an instrument, once made, keeps its first callbacks for good."""

    rows: tuple[_Row, ...] = ()


class PoolMetrics:
    """A sink for hold times, and `update` for the rest, once a tick."""

    def __init__(self) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__)
        _Shown.rows = ()
        self._names: set[str] = set()
        for name, unit, text in _GAUGES:
            meter.create_observable_up_down_counter(name, [_reading(name)], unit, text)
        meter.create_observable_gauge(
            semconv.METRIC_POOL_ETA,
            [_reading(semconv.METRIC_POOL_ETA)],
            "s",
            "When the pool will be empty at the present rate of loss.",
        )
        self._timeouts = meter.create_counter(semconv.METRIC_POOL_TIMEOUTS, "{timeout}", "Requests that got none.")
        self._times = {
            name: meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=BOUNDARIES)
            for name, text in _TIMES
        }

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Nothing: `crawlo.pool.exhaustion.eta` shows it."""

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Nothing: `crawlo.pool.exhaustion.eta` shows it."""

    def released(self, handles: Sequence[Handle]) -> None:
        """Nothing: a pool keeps its own hold times, of brief ones too."""

    def update(self, pools: Pools, findings: Findings, now: float) -> None:
        """Compute what the gauges show, and record what happened since the last tick."""
        lost = _lost(findings)
        rows: list[_Row] = []
        for pool in pools:
            rows += [row for row in self._rows(pool, lost, now) if row.metric not in pool.silent]
            self._drain(pool)
        _Shown.rows = tuple(rows)

    def _rows(self, pool: Pool, lost: dict[Pool, list[float]], now: float) -> Iterable[_Row]:
        limits = pool.read()
        if limits is None:
            return
        name = {semconv.POOL_NAME: self._bounded(pool.name)}
        known = {
            semconv.METRIC_POOL_MAX: limits.max,
            semconv.METRIC_POOL_IDLE_MAX: limits.idle_max,
            semconv.METRIC_POOL_IDLE_MIN: limits.idle_min,
            semconv.METRIC_POOL_PENDING: len(pool.waiting),
            semconv.METRIC_POOL_ETA: pool.eta([*lost.get(pool, []), *_charged(pool)], now),
        }
        yield from (_Row(metric, value, name) for metric, value in known.items() if value is not None)
        for state, count in ((semconv.POOL_USED, len(pool.held)), (semconv.POOL_IDLE, limits.idle)):
            if count is not None:
                yield _Row(semconv.METRIC_POOL_COUNT, count, {**name, semconv.POOL_STATE: state})

    def _drain(self, pool: Pool) -> None:
        for metric, times in (
            (semconv.METRIC_POOL_WAIT_TIME, pool.waits),
            (semconv.METRIC_POOL_CREATE_TIME, pool.creations),
            (semconv.METRIC_POOL_USE_TIME, pool.uses),
        ):
            self._record(metric, pool, times.take())
        new = pool.timeouts - pool.timeouts_told
        if new and semconv.METRIC_POOL_TIMEOUTS not in pool.silent:
            self._timeouts.add(new, {semconv.POOL_NAME: self._bounded(pool.name)})
        pool.timeouts_told += new

    def _record(self, metric: str, pool: Pool, seconds: Batch) -> None:
        if len(seconds) and metric not in pool.silent:
            histograms.record(self._times[metric], seconds, {semconv.POOL_NAME: self._bounded(pool.name)})

    def _bounded(self, name: str) -> str:
        if len(self._names) < CAP:
            self._names.add(name)
        return name if name in self._names else semconv.OTHER


def _lost(findings: Findings) -> dict[Pool, list[float]]:
    """Return when the leaked connections of each pool were acquired, in monotonic seconds."""
    lost: dict[Pool, list[float]] = {}
    for finding in list(findings.by_key.values()):
        counts = finding.reason.is_leak and finding.reason is not Reason.ABANDONED
        for leak in list(finding.open_leaks) if counts else ():
            pool: Pool | None = getattr(leak.handle, "pool", None)
            if pool is not None and leak.handle in pool.held:
                lost.setdefault(pool, []).append(leak.acquired_at)
    return lost


def _charged(pool: Pool) -> list[float]:
    """Return when those were acquired that were collected while the library's pool stays charged for them."""
    return [handle.acquired_at for handle in list(pool.held) if handle.released_at is not None]


def _reading(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(row.value, row.attributes) for row in _Shown.rows if row.metric == name]

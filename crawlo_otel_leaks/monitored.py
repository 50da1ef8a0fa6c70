"""One monitored stretch of work: its span, its scope, its snapshots and its verdict."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import context, trace
from opentelemetry.trace import Status, StatusCode

from crawlo_otel_leaks import analysis, runtime, semconv
from crawlo_otel_leaks.aside import aside
from crawlo_otel_leaks.leak_detector import LeakDetector
from crawlo_otel_leaks.model import Scope
from crawlo_otel_leaks.owner import current_scope
from crawlo_otel_leaks.stretch import Caller
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

_logger = logging.getLogger("crawlo_otel_leaks")


class Plan(NamedTuple):
    """How a stretch is to be monitored."""

    name: str
    threshold_mb: float
    interval: float
    """Seconds between snapshots, 0 for none."""
    types: bool
    """Whether objects are counted by type before and after."""
    attributes: dict[str, str]
    """Of the scope."""
    done: Callable[[dict[str, Any]], None]
    """Gets the analysis."""


class Monitored:
    """Monitors from its entry to its exit, sync or async. Whatever fails in it, the host's work goes on."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._scope = Scope(plan.name, current_scope.get(), dict(plan.attributes))
        self.leak_detector = LeakDetector(plan.name, scope=self._scope)
        self.analysis: dict[str, Any] | None = None
        """The verdict, once it has ended."""
        self._ticker: _Ticker | None = None

    def take_snapshot(self, name: str = "") -> None:
        """Note how things are now."""
        self.leak_detector.snapshot(name)

    def __enter__(self) -> Self:
        """Begin."""
        self._begin()
        _safely(self._set_baseline)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, with a verdict."""
        try:
            _safely(self._judge, Caller.here())
        finally:
            self._end(error)

    async def __aenter__(self) -> Self:
        """Begin, without keeping the event loop from its work."""
        self._begin()
        try:
            await aside(_safely, self._set_baseline)
        except BaseException as error:
            self._end(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, with a verdict, without keeping the event loop from its work."""
        try:
            await aside(_safely, self._judge, Caller.here())
        finally:
            self._end(error)

    def _begin(self) -> None:
        tracer = trace.get_tracer(semconv.SCOPE, __version__)
        self._span = tracer.start_span(f"monitor {self._plan.name}", attributes={semconv.MONITOR_NAME: self._plan.name})
        self._attached = context.attach(trace.set_span_in_context(self._span))
        self._token = current_scope.set(self._scope)

    def _set_baseline(self) -> None:
        if self._plan.interval:
            self._ticker = _Ticker(self.leak_detector, self._plan.interval)
        self.leak_detector.set_baseline("start", types=None if self._plan.types else False)

    def _judge(self, caller: Caller) -> None:
        self.leak_detector.snapshot("end", types=None if self._plan.types else False)
        told = self.analysis = self.leak_detector.analyze_for(caller, self._plan.threshold_mb)
        self._plan.done(told)
        handles = sum(site["count"] for leak in told["potential_leaks"] for site in leak["sites"])
        self._span.set_attributes({semconv.MONITOR_VERDICT: told["status"], semconv.MONITOR_LEAKS: handles})
        level = logging.WARNING if told["status"] == analysis.LEAKING else logging.INFO
        _logger.log(level, "crawlo_otel_leaks: %s: %s%s", self._plan.name, told["status"], _summary(told))

    def _end(self, error: BaseException | None) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        _safely(self._end_scope)
        if isinstance(error, Exception):
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self._span.end()
        context.detach(self._attached)

    def _end_scope(self) -> None:
        running = runtime.current()
        if running is not None:
            running.end_scope(self._scope)
        if current_scope.get() is self._scope:
            current_scope.set(self._scope.parent)


class _Ticker:
    """Takes snapshots at an interval, on a thread of its own, for as long as the detector lives."""

    def __init__(self, detector: LeakDetector, interval: float) -> None:
        self._stopped = threading.Event()
        arguments = (weakref.ref(detector), interval, self._stopped)
        threading.Thread(target=_snapshots, args=arguments, name="crawlo-leaks-monitor", daemon=True).start()

    def stop(self) -> None:
        """Take no more."""
        self._stopped.set()


def _snapshots(ref: weakref.ref[LeakDetector], interval: float, stopped: threading.Event) -> None:
    while not stopped.wait(interval):
        detector = ref()
        if detector is None:
            return
        _safely(_snapshot, detector)
        del detector


def _snapshot(detector: LeakDetector) -> None:
    detector.snapshot(types=False)


def _safely(step: Callable[..., None], *arguments: object) -> None:
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001  (the host's work goes on)
        running = runtime.current()
        if running is not None:
            running.tracker.fail("monitor", error)
        else:
            _logger.warning("crawlo_otel_leaks: monitoring failed: %r", error)


def _summary(told: dict[str, Any]) -> str:
    """Return the leaks in a few words, the first site of each type."""
    parts = []
    for leak in told["potential_leaks"]:
        where = [f"{site['file']}:{site['line']} {site['function']}" for site in leak["sites"][:1]]
        parts.append(" ".join([f"{leak.get('growth', leak.get('growth_mb'))} {leak['type']}", *where]))
    return "".join(f"; {part}" for part in parts)

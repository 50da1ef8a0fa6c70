"""The one place that wires everything: settings, tracker, detector, emitters, report, exit."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import blame, exits, live, wakeups
from crawlo_otel_leaks.detector import Detector
from crawlo_otel_leaks.emitters.logs import Logs
from crawlo_otel_leaks.emitters.metrics import Metrics
from crawlo_otel_leaks.emitters.pools import PoolMetrics
from crawlo_otel_leaks.emitters.runs import RunTelemetry
from crawlo_otel_leaks.emitters.spans import Spans
from crawlo_otel_leaks.endpoint import Endpoint
from crawlo_otel_leaks.growth import Growth
from crawlo_otel_leaks.numbers import Numbers
from crawlo_otel_leaks.pool import Pools
from crawlo_otel_leaks.report import Page, build, from_locale, write
from crawlo_otel_leaks.runs import Runs
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.shortages import Shortages
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.swift import accelerate
from crawlo_otel_leaks.ticker import Ticker
from crawlo_otel_leaks.tracker import BRIEF, Tracker
from crawlo_otel_leaks.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.findings import Sink
    from crawlo_otel_leaks.model import Handle, Scope
    from crawlo_otel_leaks.report.model import Report

    Finder = Callable[[object], Handle | None]

_logger = logging.getLogger("crawlo_otel_leaks")
WATCHED: Final = 1.0
"""Seconds between two ticks while somebody watches what is held, or signals."""
REFRESH: Final = 0.1
"""Seconds that a look in between waits for a tick that is under way."""
PAUSE: Final = 1.0
"""Seconds into a tick after which neither a fork nor an exit waits for it: an exporter hangs in it."""


class Runtime:
    """A running leak detector. `start` and `stop` may be called from any thread."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        sites, brief = Sites(settings.stack_depth, full=settings.level == "full"), min(BRIEF, settings.hold_min)
        self.tracker = Tracker(sites, clock, capture_paths=settings.capture_paths, brief=brief)
        if settings.accelerator:
            accelerate(self.tracker)
        self.endpoint = Endpoint()
        self.vitals = Vitals(self.tracker, own=lambda: self.endpoint.descriptors() | wakeups.descriptors())
        self.growth, self.numbers = Growth(settings.memory_window), Numbers(self.tracker)
        self._spans = Spans(settings)
        self._logs, self._metrics, self._pool_metrics = Logs(), Metrics(self.numbers), PoolMetrics()
        self.runs = Runs(self.tracker, settings.grace, RunTelemetry())
        sinks: list[Sink] = [self._spans, self._logs, self._metrics, self._pool_metrics, self.runs]
        self.detector = Detector(self.tracker, settings, sinks)
        self.pools, self.shortages = Pools(self.tracker.stock), Shortages()
        self.finders: list[Finder] = []
        # Ticks call exporters, so whoever else takes it waits for a bounded time only. Reentrant,
        # because an exporter may fork: `pause` then comes from the ticking thread itself.
        self._tick = threading.RLock()
        self._ticking_since: float | None = None
        self._finished = False
        self.ticker = Ticker(self._beat, self._pause_between_ticks, self.tracker.fail)

    def start(self) -> None:
        """Start the detector's thread and the hooks for exit, fork and SIGTERM."""
        with suppress_instrumentation():
            self._spans.attach()
        self._open_endpoint()
        exits.install(self)
        self.ticker.start()

    def stop(self) -> None:
        """Stop quietly: no verdict, no report; what was emitted so far stays."""
        exits.remove(self)
        self.ticker.stop()
        self.growth.stop()
        self.endpoint.close()
        self.numbers.reset()

    def tick(self, now: float | None = None) -> None:
        """Run the detector once, now; also the detector thread's own step."""
        with self._tick, suppress_instrumentation():
            self._ticking_since = time.monotonic()
            try:
                self._spans.attach()
                now = self.tracker.clock() if now is None else now
                self.detector.tick(now)
                self._publish(now)
                self.endpoint.tell(lambda: live.table(self.detector, self.vitals))
            finally:
                self._ticking_since = None

    def refresh(self) -> None:
        """Have instrumentors note what they note at each tick, for a look in between; unless an exporter hangs."""
        if self._tick.acquire(timeout=REFRESH):
            try:
                with suppress_instrumentation():
                    self.detector.note()
            finally:
                self._tick.release()

    def end_scope(self, scope: Scope) -> None:
        """Have everything that a scope holds looked at, off the caller's thread."""
        scope.ended_at = self.tracker.clock()
        self.tracker.ended_scopes.append(scope)

    def attend(self, find: Finder, look: Callable[[], None], reset: Callable[[], None]) -> None:
        """Ask an instrumentor's `find` for handles, `look` at each tick, and `reset` in a forked child."""
        self.finders.append(find)
        self.tracker.chores.append(look)
        self.tracker.resets.append(reset)

    def find(self, thing: object) -> Handle | None:
        """Return the handle that stands for a user's object, if it is tracked."""
        return next((handle for finder in self.finders if (handle := finder(thing)) is not None), None)

    def report(self) -> Report:
        """Return what is known so far."""
        return build(self.detector.findings, self.shortages, self.vitals, self.tracker, self.runs)

    def finish(self, *, exiting: bool) -> None:
        """Judge what is left, write the reports; once. For the end of the process."""
        if self._finished:
            return
        self._finished = True
        self.ticker.stop()
        if exiting and any(self.tracker.held()):
            # What only the collector can find is abandoned, not held; the interpreter collects next anyway.
            gc.collect()
        if self._acquire_tick():
            try:
                self._judge_the_rest(exiting=exiting)
            finally:
                self._tick.release()
        else:
            _logger.warning("crawlo_otel_leaks: an exporter hangs; the end of the process is not judged")
        self._let_go()
        self.endpoint.close()
        for path in self.settings.report:
            self._write(exits.own_path(path))

    def forked(self) -> None:
        """Begin anew in a forked child: what is held was the parent's."""
        global _lock  # noqa: PLW0603  (another thread of the parent may have held it)
        _lock = threading.Lock()
        self._tick, self._ticking_since = threading.RLock(), None
        for one in (self.tracker, self.pools, self.runs):
            one.clear()
        self.shortages = Shortages()
        self.vitals.begin()
        self.growth.stop()
        self.tracker.closed = False
        self.detector = Detector(self.tracker, self.settings, self.detector.sinks)
        self.numbers.reset()
        self._finished = False
        self.endpoint.forked()
        self._open_endpoint()
        self.ticker.start()

    def hurry(self) -> None:
        """Tick more often from now on, if there is a reason, and not only after the next tick."""
        self.ticker.stop()
        self.ticker.start()

    def pause(self) -> None:
        """Wait for the running tick, so that a fork copies no lock of the host's that we hold."""
        self._acquire_tick()

    def resume(self) -> None:
        """Go on after `pause`."""
        with contextlib.suppress(RuntimeError):  # not this thread's: the wait was given up
            self._tick.release()

    def _acquire_tick(self) -> bool:
        since = self._ticking_since
        left = PAUSE if since is None else since + PAUSE - time.monotonic()
        return self._tick.acquire(timeout=max(0.0, left))

    def _judge_the_rest(self, *, exiting: bool) -> None:
        try:
            with suppress_instrumentation():
                self._spans.attach()
                self.detector.finish(exiting=exiting)
                self._publish(self.tracker.clock(), last=True)
        except Exception as error:  # noqa: BLE001  (the process ends as it would without us)
            self.tracker.fail("exit", error)

    def _publish(self, now: float, *, last: bool = False) -> None:
        """Bring up to date what gauges show, tell the verdicts on runs, and who waits in vain."""
        self._look_at_process(now, last=last)
        self.runs.judge(self.detector.findings, self.vitals.latest, now, last=last)
        self.numbers.update(self.detector, self.vitals.numbers, now)
        self._metrics.update(self.tracker)
        self._pool_metrics.update(self.pools, self.detector.findings, now)
        for pool, handle in self.pools.late(now, self.settings.pool_wait):
            blame.tell(self.tracker, blame.of_pool(pool, list(pool.held), handle, now), handle.span)
        while self.tracker.exhausted:
            exhaustion = self.tracker.exhausted.popleft()
            self.shortages.add(exhaustion)
            self._logs.exhausted(exhaustion)

    def _look_at_process(self, now: float, *, last: bool) -> None:
        try:
            self.vitals.look(now, last=last)
            grown = self.growth.look(now, growing=self.vitals.growing and not last)
            if grown is not None:
                self.vitals.grown = grown
                self._logs.grown(grown)
        except Exception as error:  # noqa: BLE001  (verdicts do not depend on it)
            self.tracker.fail("process", error)

    def _let_go(self) -> None:
        self.tracker.closed = True
        for handle in self.tracker.held():
            handle.let_go()

    def _write(self, path: str) -> None:
        try:
            with suppress_instrumentation():
                write(self.report(), path, Page(self.settings.trace_url, self.settings.lang or from_locale()))
        except Exception as error:  # noqa: BLE001  (as above)
            _logger.warning("crawlo_otel_leaks: cannot write the report to %s: %s", path, error)

    def _beat(self) -> None:
        exits.rouse()
        self.tick()

    def _pause_between_ticks(self) -> float:
        return min(self.settings.scan_interval, WATCHED if self.endpoint.watched or wakeups.descriptors() else inf)

    def _open_endpoint(self) -> None:
        if self.settings.top:
            with suppress_instrumentation():
                self.endpoint.open()


_lock = threading.Lock()
_runtime: Runtime | None = None
_users: set[str] = set()


def current() -> Runtime | None:
    """Return the running detector, None while nothing is instrumented."""
    return _runtime


def start(user: str, settings: Settings | None = None) -> Runtime | None:
    """Return the process's detector, started for its first user; None when the settings switch it off."""
    global _runtime  # noqa: PLW0603  (one detector a process; this is where it lives)
    with _lock:
        if _runtime is None:
            chosen = settings or _from_env()
            if not chosen.active:
                return None
            _runtime = Runtime(chosen)
            _runtime.start()
        _users.add(user)
        return _runtime


def stop(user: str) -> None:
    """Stop the detector when its last user goes."""
    global _runtime
    with _lock:
        _users.discard(user)
        if _users or _runtime is None:
            return
        last, _runtime = _runtime, None
    last.stop()  # outside of the lock: it waits for a thread that may be in foreign code


def _from_env() -> Settings:
    settings, refused = Settings.from_env()
    for message in refused:
        _logger.warning("crawlo_otel_leaks: %s", message)
    return settings

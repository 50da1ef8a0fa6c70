"""The one place that wires everything: settings, tracker, detector, emitters, report, exit."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import exits
from crawlo_otel_leaks.detector import Detector
from crawlo_otel_leaks.emitters.logs import Logs
from crawlo_otel_leaks.emitters.metrics import Metrics
from crawlo_otel_leaks.emitters.spans import Spans
from crawlo_otel_leaks.numbers import Numbers
from crawlo_otel_leaks.report import build, write
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.model import Handle, Scope
    from crawlo_otel_leaks.report.model import Report

_logger = logging.getLogger("crawlo_otel_leaks")
JOIN: Final = 2.0
"""Seconds that an exit waits for the detector's thread."""


class Runtime:
    """A running leak detector. `start` and `stop` may be called from any thread."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.tracker = Tracker(
            Sites(settings.stack_depth, full=settings.level == "full"),
            clock,
            capture_paths=settings.capture_paths,
        )
        self.numbers = Numbers(self.tracker)
        self._spans = Spans(settings)
        self.detector = Detector(self.tracker, settings, [self._spans, Logs(), Metrics(self.numbers)])
        self.finders: list[Callable[[object], Handle | None]] = []
        self._exits = exits.Exits(self)
        self._tick = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._finished = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the detector's thread and the hooks for exit, fork and SIGTERM."""
        self._exits.install()
        self._start_thread()

    def stop(self) -> None:
        """Stop quietly: no verdict, no report; what was emitted so far stays."""
        self._stop_thread()
        self._exits.remove()

    def tick(self, now: float | None = None) -> None:
        """Run the detector once, now; also the detector thread's own step."""
        with self._tick, suppress_instrumentation():
            if self._spans.attach():
                self._exits.come_last()
            self.detector.tick(now)
            self.numbers.update(self.detector, self.tracker.clock() if now is None else now)

    def end_scope(self, scope: Scope) -> None:
        """Have everything that a scope holds looked at, off the caller's thread."""
        scope.ended_at = self.tracker.clock()
        self.tracker.ended_scopes.append(scope)

    def find(self, thing: object) -> Handle | None:
        """Return the handle that stands for a user's object, if it is tracked."""
        return next((handle for finder in self.finders if (handle := finder(thing)) is not None), None)

    def report(self) -> Report:
        """Return what is known so far."""
        return build(self.detector.findings, self.tracker)

    def finish(self, *, exiting: bool) -> None:
        """Judge what is left, write the reports; once. For the end of the process."""
        if self._finished:
            return
        self._finished = True
        self._stop_thread()
        with self._tick, suppress_instrumentation():
            self._spans.attach()
            if exiting and any(self.tracker.held()):
                # What only the collector can find is abandoned, not held; the interpreter collects next anyway.
                gc.collect()
            self.detector.finish(exiting=exiting)
            self.numbers.update(self.detector, self.tracker.clock())
            self.tracker.closed = True
            for handle in self.tracker.held():
                handle.let_go()
            for path in self.settings.report:
                self._write(exits.own_path(path))

    def forked(self) -> None:
        """Begin anew in a forked child: what is held was the parent's."""
        self.tracker.clear()
        self.tracker.closed = False
        self.detector = Detector(self.tracker, self.settings, self.detector.sinks)
        self._tick = threading.Lock()
        self._finished = False
        self._start_thread()

    def pause(self) -> None:
        """Wait for the running tick, so that a fork copies no lock of the host's that we hold."""
        self._tick.acquire(timeout=JOIN)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._tick.locked():
            self._tick.release()

    def _write(self, path: str) -> None:
        try:
            write(self.report(), path)
        except OSError as error:
            _logger.warning("crawlo_otel_leaks: cannot write the report to %s: %s", path, error)

    def _start_thread(self) -> None:
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crawlo-leaks-detector", daemon=True)
        self._thread.start()

    def _stop_thread(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN)

    def _run(self) -> None:
        pid = os.getpid()
        while not self._wake.wait(self.settings.scan_interval) and not self._stopping and os.getpid() == pid:
            self._try_tick()

    def _try_tick(self) -> None:
        try:
            self.tick()
        except Exception as error:  # noqa: BLE001  (the detector must outlive a failure of its own)
            self.tracker.fail("detector", error)


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
    global _runtime  # noqa: PLW0603  (see start)
    with _lock:
        _users.discard(user)
        if not _users and _runtime is not None:
            _runtime.stop()
            _runtime = None


def _from_env() -> Settings:
    settings, refused = Settings.from_env()
    for message in refused:
        _logger.warning("crawlo_otel_leaks: %s", message)
    return settings

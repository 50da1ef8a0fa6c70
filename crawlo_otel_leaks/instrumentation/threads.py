"""Threads, from `start` to the end of their run."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv, sites
from crawlo_otel_leaks.instrumentation._runners import MACHINERY, RunnerHandle, Runners, files, maker
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.owner import current_frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_logger = logging.getLogger("crawlo_otel_leaks")
DEPTH: Final = 8
"""Frames, from the innermost, that tell one step of a thread from another."""
_TOOLS: Final = (threading.__file__, os.path.join("instrumentation", "threads.py"))  # noqa: PTH118  (strings)


class ThreadHandle(RunnerHandle):
    """A thread that runs. What the interpreter cannot wait for, a daemon, it cuts off at exit."""

    __slots__ = ()
    runners: Threads
    cut_off = True

    def needed(self) -> bool:
        """Whether it is a timer, which ends by itself."""
        return isinstance(self.ref(), threading.Timer)

    def step(self) -> object:
        """Return where it was at the last tick."""
        return self.runners.steps.get(id(self))


class Threads(Runners[ThreadHandle]):
    """What stands in front of threading's methods."""

    def __init__(self, running: Runtime) -> None:
        super().__init__(running.tracker)
        self.steps: dict[int, object] = {}
        self._grace = running.settings.grace
        self._exiting_since: float | None = None
        self._told = False

    def start(self, wrapped: Wrapped, thread: threading.Thread, args: Arguments, kwargs: Keywords) -> Any:
        """Thread.start: noted before, because a short run has ended when it returns."""
        handle = self._safely("start", self._note, thread, sys._getframe(1))  # noqa: SLF001
        try:
            return wrapped(*args, **kwargs)
        except BaseException:
            if handle is not None:  # no thread could be started
                self.held.pop(id(thread), None)
                self.tracker.forget(handle)
            raise

    def run(self, wrapped: Wrapped, thread: threading.Thread, args: Arguments, kwargs: Keywords) -> Any:
        """Thread._bootstrap_inner: all that a thread does, whatever its `run` is, before anybody's join returns."""
        try:
            return wrapped(*args, **kwargs)
        finally:
            handle = self.find(thread)
            if handle is not None:
                self.end(id(thread), handle)

    def _note(self, thread: threading.Thread, frame: FrameType) -> ThreadHandle | None:
        if self.find(thread) is not None:  # started twice, which it refuses
            return None
        made_by = maker(files(frame), _TOOLS)
        if made_by in MACHINERY:
            self.tracker.ignored += 1
            return None
        handle = ThreadHandle(semconv.THREAD, thread.name)
        handle.ref, handle.runners = weakref.ref(thread), self
        if self.tracker.acquire(handle, frame) is None:
            return None
        if handle.scope is None:  # a thread starts with no context: its starter's scope is that of what it starts
            starter = handle.thread.ref and self.find(handle.thread.ref())
            handle.scope = starter.scope if starter else None
        # How long a library's thread lives is not its caller's to decide.
        handle.shared = made_by is not None
        self.begin(thread, handle)
        return handle

    def look(self) -> None:
        """Note what runs, and where each thread is: steps alone, for frames would keep the host's objects alive."""
        self.count()
        self.steps = self._steps() if self.held else {}
        self._tell_hanging_exit()

    def _steps(self) -> dict[int, object]:
        frames = current_frames()
        threads = ((handle, handle.ref()) for handle in list(self.held.values()))
        return {id(handle): _step(frames.get(thread.ident or 0)) for handle, thread in threads if thread}

    def _tell_hanging_exit(self) -> None:
        """The interpreter waits for threads before any exit hook runs: no report could tell which."""
        if self._told or threading.main_thread().is_alive():
            return
        now = self.tracker.clock()
        self._exiting_since = self._exiting_since or now
        if now - self._exiting_since >= self._grace:
            self._told = True
            for handle in list(self.held.values()):
                thread = handle.ref()
                if thread is not None and not thread.daemon and thread.is_alive():
                    _logger.warning(
                        "crawlo_otel_leaks: the interpreter waits to exit for thread %s, started by %s%s",
                        handle.name,
                        sites.place(handle.site),
                        f", in {handle.scope.name}" if handle.scope else "",
                    )

    def reset(self) -> None:
        """Forget all, in a forked child."""
        super().reset()
        self.steps = {}

    def _safely(self, where: str, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return step(*args)
        except Exception as error:  # noqa: BLE001  (the thread starts in any case)
            self.tracker.fail(f"thread {where}", error)
            return None


def _step(frame: FrameType | None) -> object:
    places: list[tuple[int, int]] = []
    while frame is not None and len(places) < DEPTH:
        places.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return tuple(places)


class ThreadsInstrumentor(Instrumentor):
    """Watches threading.Thread and what is derived from it."""

    handles = (ThreadHandle,)
    _threads: Threads

    def points(self, running: Runtime) -> list[Point]:
        """Return the table: the end of a thread before its beginning."""
        self._threads = threads = Threads(running)
        running.attend(threads.find, threads.look, threads.reset)
        return [
            Point("threading", "Thread._bootstrap_inner", threads.run, semconv.THREAD),
            Point("threading", "Thread.start", threads.start, semconv.THREAD),
        ]

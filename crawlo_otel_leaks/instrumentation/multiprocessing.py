"""multiprocessing: processes until somebody has joined them, pools and process executors until they are shut down."""

from __future__ import annotations

import select
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._children import (
    GONE,
    RUNNING,
    ChildHandle,
    Children,
    finalizing,
    made_by_library,
)
from crawlo_otel_leaks.instrumentation._runners import RunnerHandle, Runners
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.model import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_OWN: Final = ("multiprocessing.", "concurrent.futures.")
"""Modules whose processes are their own: workers of pools, servers of managers."""


class ProcessHandle(ChildHandle):
    """A multiprocessing.Process that nobody has joined. No exit accuses it: it is joined there, or ended."""

    __slots__ = ()

    def state(self) -> str:
        """Return whether it runs, has ended, or was joined."""
        popen = getattr(self.ref(), "_popen", None)
        if popen is None or popen.returncode is not None:
            return GONE
        if popen.method != "forkserver":
            return super().state()
        # The child of a helper process, which waits for it: only its end can be seen.
        return GONE if _readable(popen.sentinel) else RUNNING

    def descriptors(self) -> Iterable[int]:
        """Return what tells each of the two that the other has ended."""
        popen = getattr(self.ref(), "_popen", None)
        finalizer = getattr(popen, "finalizer", None)
        return () if finalizer is None or not finalizer.still_active() else finalizer._args  # noqa: SLF001


class Processes(Children[ProcessHandle]):
    """What stands in front of Process's methods."""

    def start(self, wrapped: Wrapped, process: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Process.start. In the child of a fork, it never returns."""
        result = wrapped(*args, **kwargs)
        self.safely(self._note, process, sys._getframe(1))  # noqa: SLF001  (documented)
        return result

    def join(self, wrapped: Wrapped, process: object, args: Arguments, kwargs: Keywords) -> Any:
        """Process.join: somebody takes care of it."""
        return self.waits(process, wrapped, *args, **kwargs)

    def look(self, wrapped: Wrapped, process: object, args: Arguments, kwargs: Keywords) -> Any:
        """Process.is_alive: somebody has an eye on it."""
        return self.looks(process, wrapped, *args, **kwargs)

    def over(self, handle: ProcessHandle) -> bool:
        """Whether somebody has joined it."""
        return handle.state() is GONE

    def _note(self, process: Any, frame: FrameType) -> None:
        if str(frame.f_globals.get("__name__")).startswith(_OWN):
            self.tracker.ignored += 1
            return
        handle = ProcessHandle(process.name)
        handle.ref, handle.runners, handle.pid = weakref.ref(process), self, process.pid
        if self.tracker.acquire(handle, frame) is not None:
            handle.independent = made_by_library(frame)
            handle.signalled = True  # the interpreter joins it at its exit, or ends it
            self.begin(process, handle)


class PoolHandle(RunnerHandle):
    """A pool of processes that was not shut down. No exit accuses it: it is shut down there."""

    __slots__ = ("uses",)
    uses: int
    cut_off = True

    def progress(self) -> Progress:
        """Tell use by what is submitted."""
        return Progress(object() if self.runners.over(self) else self.uses)

    def busy(self) -> bool:
        """Whether work is under way, or others of its line took as long."""
        pool = self.ref()
        return bool(getattr(pool, "_cache", None) or getattr(pool, "_pending_work_items", None)) or super().busy()


class Workers(Runners[PoolHandle]):
    """What stands in front of the methods of pools and executors."""

    def open(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> None:
        """Pool.__init__, ProcessPoolExecutor.__init__."""
        wrapped(*args, **kwargs)
        try:
            self._note(pool, sys._getframe(1))  # noqa: SLF001  (documented)
        except Exception as error:  # noqa: BLE001  (the host has its pool)
            self.tracker.fail("pool", error)

    def use(self, wrapped: Wrapped, pool: object, args: Arguments, kwargs: Keywords) -> Any:
        """Pool._check_running, which all that submits asks first, and ProcessPoolExecutor.submit."""
        handle = self.find(pool)
        if handle is not None:
            handle.uses += 1
            self.tracker.use(handle)
        return wrapped(*args, **kwargs)

    def drop(self, pool: Any) -> None:
        """Pool.__del__: its workers run on for ever. An executor ends with its last reference."""
        handle = self.held.pop(id(pool), None)
        if handle is not None:
            (self.tracker.release if _shut(pool) else self.tracker.abandon)(handle)

    def over(self, handle: PoolHandle) -> bool:
        """Whether it was shut down."""
        pool = handle.ref()
        return pool is None or _shut(pool)

    def _note(self, pool: Any, frame: FrameType) -> None:
        if any(base.__name__ == "ThreadPool" for base in type(pool).__mro__):
            return  # of threads, which are watched by themselves
        handle = PoolHandle(semconv.SUBPROCESS, type(pool).__name__)
        handle.ref, handle.runners, handle.uses = weakref.ref(pool), self, 0
        if self.tracker.acquire(handle, frame) is not None:
            handle.shared = made_by_library(frame)
            self.begin(pool, handle)


def _shut(pool: Any) -> bool:
    """Whether a pool or an executor takes no more work."""
    return bool(getattr(pool, "_shutdown_thread", getattr(pool, "_state", "RUN") != "RUN"))


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class MultiprocessingInstrumentor(Instrumentor):
    """Watches multiprocessing.Process, Pool, and concurrent.futures.ProcessPoolExecutor."""

    handles = (ProcessHandle, PoolHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        processes, pools = Processes(running), Workers(running.tracker)
        for each in (processes, pools):
            running.attend(each.find, each.count, each.reset)
        process, pool, executor = "multiprocessing.process", "multiprocessing.pool", "concurrent.futures.process"
        return [
            Point(process, "BaseProcess.join", processes.join, process),
            Point(process, "BaseProcess.is_alive", processes.look, process),
            Point(process, "BaseProcess.start", processes.start, process),
            Point(pool, "Pool._check_running", pools.use, pool),
            Point(pool, "Pool.__del__", finalizing(pools.drop), pool, direct=True),
            Point(pool, "Pool.__init__", pools.open, pool),
            Point(executor, "ProcessPoolExecutor.submit", pools.use, executor),
            Point(executor, "ProcessPoolExecutor.__init__", pools.open, executor),
        ]

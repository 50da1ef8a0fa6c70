"""How a process ends, forks or is told to end, so that what was found still gets out."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import _logs, metrics, trace

if TYPE_CHECKING:
    from types import FrameType

FLUSH: Final = 5.0
"""Seconds that SIGTERM may be delayed for telemetry; an unreachable collector must not hold the process."""
MAIN_PID: Final = "_CRAWLO_OTEL_LEAKS_MAIN_PID"
"""Tells child processes, which inherit the environment, that a report path is taken."""


class Ending(Protocol):
    """What an exit calls."""

    def finish(self, *, exiting: bool) -> None:
        """Judge and report what is left."""

    def forked(self) -> None:
        """Begin anew in a child."""

    def pause(self) -> None:
        """Hold no lock of the host's."""

    def resume(self) -> None:
        """Go on."""


class Exits:
    """The hooks of one runtime; each is inert once removed, for `register_at_fork` cannot be undone."""

    def __init__(self, ending: Ending) -> None:
        self._ending = weakref.ref(ending)
        self._installed = False
        self._at_fork = False
        self._terminating = False

    def install(self) -> None:
        """Hook exit, fork and, where the program has no handler of its own, SIGTERM."""
        self._installed = True
        os.environ.setdefault(MAIN_PID, str(os.getpid()))
        atexit.register(self._exit)
        if not self._at_fork:
            self._at_fork = True
            os.register_at_fork(
                before=lambda: self._call("pause"),
                after_in_parent=lambda: self._call("resume"),
                after_in_child=self._child,
            )
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)

    def remove(self) -> None:
        """Unhook; a SIGTERM handler only if it is still ours."""
        self._installed = False
        atexit.unregister(self._exit)
        ours = signal.getsignal(signal.SIGTERM) == self._terminate
        if ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def come_last(self) -> None:
        """Register anew: exit hooks run in reverse order, and the SDK's, made later, would shut down first."""
        if self._installed:
            atexit.unregister(self._exit)
            atexit.register(self._exit)

    def _call(self, method: str) -> None:
        ending = self._ending()
        if self._installed and ending is not None:
            getattr(ending, method)()

    def _exit(self) -> None:
        ending = self._ending()
        if ending is not None:
            ending.finish(exiting=True)

    def _child(self) -> None:
        self._call("forked")
        if self._installed:
            _finish_with_multiprocessing(self._exit_child)

    def _exit_child(self) -> None:
        self._exit()
        flush()

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """Report, then die of the signal as the program would have without us."""
        del frame
        if not self._terminating:
            self._terminating = True
            # A thread, because the interrupted one may hold a lock that exporting needs.
            work = threading.Thread(target=self._last_words, name="crawlo-leaks-sigterm", daemon=True)
            work.start()
            work.join(FLUSH)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _last_words(self) -> None:
        ending = self._ending()
        if ending is not None:
            ending.finish(exiting=False)
        flush()


def _finish_with_multiprocessing(callback: Any) -> None:  # noqa: ANN401  (a callback of no arguments)
    """Children of multiprocessing skip atexit; they run their own finalizers."""
    import sys  # noqa: PLC0415

    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(util, lambda _: util.Finalize(None, callback, exitpriority=0))


def flush() -> None:
    """Flush the providers that can be; each one's failure is its own."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is not None:
            force_flush(int(FLUSH * 1000))


def own_path(path: str) -> str:
    """Return the report path for this process: a child's carries its pid, so that it overwrites nobody's."""
    pid = str(os.getpid())
    if os.environ.get(MAIN_PID, pid) == pid:
        return path
    whole = Path(path)
    return str(whole.with_name(f"{whole.stem}.{pid}{whole.suffix}"))

"""How a process ends, forks or is told to end, so that what was found still gets out."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import wrapt
from opentelemetry import _logs, metrics, trace

from crawlo_otel_leaks import wakeups

if TYPE_CHECKING:
    from types import FrameType

_logger = logging.getLogger("crawlo_otel_leaks")
FLUSH: Final = 5.0
"""Seconds that SIGTERM may be delayed for telemetry; an unreachable collector must not hold the process."""
_SPAWNED: Final = "--multiprocessing-fork"
"""An argument of the children that multiprocessing starts anew."""
MAIN_PID: Final = "_CRAWLO_OTEL_LEAKS_MAIN_PID"
"""Tells child processes, which inherit the environment, that a report path is taken."""


class Ending(Protocol):
    """What an exit or a fork calls; each call is bounded in time and raises nothing."""

    def finish(self, *, exiting: bool) -> None:
        """Judge and report what is left."""

    def forked(self) -> None:
        """Begin anew in a child."""

    def hurry(self) -> None:
        """Call `rouse` often from now on."""

    def pause(self) -> None:
        """Hold no lock of the host's."""

    def resume(self) -> None:
        """Go on; on the thread that paused."""


# One detector a process, so one state a process: hooks for forks can never be taken back, only be inert.
_ending: Ending | None = None
_pid = 0
"""The process that `_ending` works in: right after a fork, the child's is not ready yet."""
_earlier: list[object] = []
_deferred: Final = ExitStack()
_fork: Final = threading.local()
_terminating = False


def install(ending: Ending) -> None:
    """Hook exit, fork and, where the program has no handler of its own, SIGTERM."""
    global _ending, _pid
    _ending, _pid = ending, os.getpid()
    os.environ.setdefault(MAIN_PID, str(os.getpid()))
    _earlier[:] = [provider for provider, _ in _sdk()]
    atexit.unregister(_exit)
    atexit.register(_exit)
    _hook_for_good()
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
        if _SPAWNED in sys.argv:
            wakeups.listen()


def remove(ending: Ending) -> None:
    """Unhook, unless another has been installed since; a SIGTERM handler only if it is still ours."""
    global _ending  # noqa: PLW0603  (see above)
    if _ending is not ending:
        return
    _ending = None
    if os.environ.get(MAIN_PID) == str(os.getpid()):
        del os.environ[MAIN_PID]
    if _in_main_thread() and _ours():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@cache
def _hook_for_good() -> None:
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
    wrapt.register_post_import_hook(_hook_multiprocessing, "multiprocessing.util")
    # Runs when the program is over and before any exit hook; private, and used by concurrent.futures itself.
    with suppress(AttributeError, RuntimeError):
        threading._register_atexit(_defer_late)  # type: ignore[attr-defined]  # noqa: SLF001


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


# Exit.


def _exit() -> None:
    """Finish after the program's own exit hooks, which may release, and before the SDK's shutdown."""
    with _deferred:
        if _ending is not None:
            _ending.finish(exiting=True)


def _sdk() -> list[tuple[Any, str]]:
    """Return the global providers, and where each keeps its exit hook."""
    return [
        (trace.get_tracer_provider(), "_atexit_handler"),
        (metrics.get_meter_provider(), "_atexit_handler"),
        (_logs.get_logger_provider(), "_at_exit_handler"),
    ]


def _defer_late() -> None:
    """Have an SDK that was set up after us shut down after us too: exit hooks run in reverse order."""
    for provider, attribute in _sdk() if _ending is not None else ():
        hook = getattr(provider, attribute, None)
        if hook is not None and not any(provider is known for known in _earlier):
            atexit.unregister(hook)
            _deferred.callback(_shut_down, provider, attribute)


def _shut_down(provider: object, attribute: str) -> None:
    hook = getattr(provider, attribute, None)
    if hook is not None:  # None: the program has shut it down itself
        hook()


# Forks.


def _before_fork() -> None:
    # A child forgets what signals its interpreter was about to handle: one that comes before its hooks run has to wait.
    _mask()
    _fork.ending = _ending
    if _ending is not None:
        _ending.pause()


def _after_fork() -> None:
    paused = getattr(_fork, "ending", None)
    if paused is not None:
        paused.resume()
    _unmask()


def _in_child() -> None:
    global _pid, _terminating  # noqa: PLW0603  (see above)
    _terminating = False
    try:
        if _ending is not None:
            _ending.forked()
        _pid = os.getpid()
    finally:
        _unmask()


def _mask() -> None:
    """Have SIGTERM wait: the last words would wait for locks that our own work here holds."""
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if _ours() else None


def _unmask() -> None:
    mask = getattr(_fork, "mask", None)
    if mask is not None:
        _fork.mask = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _hook_multiprocessing(util: Any) -> None:  # noqa: ANN401  (a module)
    """Children that multiprocessing forks skip the exit hooks; they run finalizers of their own."""
    util.register_after_fork(util, lambda _: _begin_child(util))


def _begin_child(util: Any) -> None:  # noqa: ANN401  (as above)
    util.Finalize(None, _exit_child, exitpriority=0)
    if _ending is None or not _ours():
        return
    _mask()
    try:  # pools end their workers by SIGTERM just as these begin to wait for more work
        wakeups.listen()
        _ending.hurry()
    finally:
        _unmask()


def _exit_child() -> None:
    _exit()
    flush()


# Signals.


def _ours() -> bool:
    return signal.getsignal(signal.SIGTERM) is _terminate


def rouse() -> None:
    """See that the main thread hears of a SIGTERM that has come, from the detector's thread, now and then."""
    if _ours() and not _terminating:
        wakeups.nudge(signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Report, then die of the signal as the program would have without us."""
    global _terminating  # noqa: PLW0603  (see above)
    del frame
    if _terminating:  # sent twice; the first is about to end it
        return
    _terminating = True
    # A thread, because the interrupted one may hold a lock that exporting needs. An interpreter that
    # exits already starts none: then the exit hook, not the signal, has had the last words.
    with suppress(RuntimeError):
        work = threading.Thread(target=_last_words, name="crawlo-leaks-sigterm", daemon=True)
        work.start()
        work.join(FLUSH)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _last_words() -> None:
    if _ending is not None and _pid == os.getpid():
        _ending.finish(exiting=False)
        flush()


def flush() -> None:
    """Flush the providers that can be, side by side, for at most `FLUSH` seconds together."""
    end = time.monotonic() + FLUSH
    for work in [_start_flush(provider) for provider, _ in _sdk() if hasattr(provider, "force_flush")]:
        work.join(max(0.0, end - time.monotonic()))


def _start_flush(provider: Any) -> threading.Thread:  # noqa: ANN401  (of three SDK classes)
    def run() -> None:
        try:
            provider.force_flush(int(FLUSH * 1000))
        except Exception as error:  # noqa: BLE001  (each one's failure is its own)
            _logger.warning("crawlo_otel_leaks: %s cannot be flushed: %r", type(provider).__name__, error)

    work = threading.Thread(target=run, name="crawlo-leaks-flush", daemon=True)
    work.start()
    return work


def own_path(path: str) -> str:
    """Return the report path for this process: a child's carries its pid, so that it overwrites nobody's."""
    pid = str(os.getpid())
    if os.environ.get(MAIN_PID, pid) == pid:
        return path
    whole = Path(path)
    return str(whole.with_name(f"{whole.stem}.{pid}{whole.suffix}"))

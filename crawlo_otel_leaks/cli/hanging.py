"""A program that cannot end: what it waits for is told, the report is written, and it is ended."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks import exits, sites

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlo_otel_leaks.runtime import Runtime

LIMIT: Final = 5.0
"""Seconds that the interpreter may wait for threads that nobody ends."""


def end_in_time(running: Runtime) -> None:
    """Let this process end by itself; if threads keep it from its exit, report, name them and end it."""
    threading.Thread(target=_watch, args=(running,), name="crawlo-leaks-exit", daemon=True).start()


def _watch(running: Runtime) -> None:
    threading.main_thread().join()
    time.sleep(LIMIT)
    for told in _waited_for(running):
        print(f"crawlo-leaks: the exit hangs on {told}", file=sys.stderr, flush=True)  # noqa: T201  (a command's voice)
    running.finish(exiting=False)
    exits.flush()
    os._exit(0)


def _waited_for(running: Runtime) -> Iterator[str]:
    for thread in threading.enumerate():
        if thread.daemon or thread is threading.main_thread():
            continue
        handle = running.find(thread)
        started = f", started by {sites.place(handle.site)}" if handle else ""
        within = f", in {handle.scope.name}" if handle and handle.scope else ""
        yield f"thread {thread.name}{started}{within}"

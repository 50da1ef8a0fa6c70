"""A signal that comes just as the main thread begins to wait wakes nobody: here it is noted, and the thread woken."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Final

import wrapt

NUDGE: Final = signal.SIGRTMAX - 5
"""Wakes the main thread and says nothing; taken only if the program has no use for it."""
NUDGES: Final = 10
"""How often the thread is woken for one signal: the note may be a child's that has not become its own program yet."""
_MINDS: Final = "trio"
"""A library that warns when somebody else takes such notes."""

_notes = -1
"""Memory that the interpreter writes a byte into for each signal; -1 while it does not."""
_read = 0
_left = 0


def listen() -> None:
    """Have the interpreter note which signals come; on the main thread. Not where another's event loop has it do so.

    Notes are written before any handler in Python runs, which the main thread alone does once it works again:
    https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd.
    """
    global _notes, _read, _left  # noqa: PLW0603  (signals are the process's)
    inherited, _notes, _read, _left = _notes, -1, 0, 0
    free = signal.getsignal(NUDGE) in (signal.SIG_DFL, _nothing)
    if not free or _MINDS in sys.modules or not hasattr(os, "memfd_create"):
        return
    notes = os.memfd_create("crawlo-leaks-signals")
    os.set_blocking(notes, False)
    before = signal.set_wakeup_fd(notes, warn_on_full_buffer=False)
    if before not in (-1, inherited):
        signal.set_wakeup_fd(before)
        os.close(notes)
        return
    _notes = notes
    signal.signal(NUDGE, _nothing)
    wrapt.register_post_import_hook(_give_up, _MINDS)


def descriptors() -> set[int]:
    """Return our own descriptors; none while nothing is noted."""
    return set() if _notes == -1 else {_notes}


def nudge(number: int) -> None:
    """Wake the main thread if this signal has come lately; from any other thread, until its handler has run."""
    global _read, _left  # noqa: PLW0603  (as above)
    if _notes == -1:
        return
    with suppress(OSError):  # the program has closed what it did not open
        new = os.pread(_notes, 4096, _read)
        _read += len(new)
        _left = NUDGES if number in new else _left
    if _left:
        _left -= 1
        signal.pthread_kill(threading.main_thread().ident or 0, NUDGE)


def _nothing(number: int, frame: object) -> None:
    """Handle the nudge: to wake up is all."""


def _give_up(_: object) -> None:
    with suppress(ValueError):  # imported on another thread: from there it cannot be undone
        if _notes != -1:
            signal.set_wakeup_fd(-1)

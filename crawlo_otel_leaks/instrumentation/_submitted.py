"""Coroutines that a thread hands to an event loop, whose tasks are made by a callback, and the line that did."""

from __future__ import annotations

import sys
import weakref
from asyncio import tasks
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._origins import clear_away
from crawlo_otel_leaks.instrumentation._task_notes import above_of

if TYPE_CHECKING:
    from crawlo_otel_leaks.instrumentation._task_notes import Note
    from crawlo_otel_leaks.tracker import Tracker


class Submitted:
    """What `run_coroutine_threadsafe` was called with, until the first tick after its end."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.frames: dict[int, tuple[weakref.ref[Any], dict[str, Any]]] = {}
        """The fields of a note that say where, by the coroutine's identity."""

    def submit(self, wrapped: Any, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in front of `run_coroutine_threadsafe`."""
        del instance
        try:
            self._note(args[0] if args else kwargs.get("coro"), sys._getframe(1))  # noqa: SLF001
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self._tracker.fail("run_coroutine_threadsafe", error)
        return wrapped(*args, **kwargs)

    def _note(self, coroutine: Any, frame: Any) -> None:
        if not hasattr(coroutine, "cr_frame"):  # which asyncio refuses, or another kind of awaitable
            return
        where = {"code": frame.f_code, "instruction": frame.f_lasti, "above": above_of(frame.f_back) or True}
        self.frames[id(coroutine)] = weakref.ref(coroutine), where

    def asked(self, task: Any, note: Note) -> Note:
        """Return the note of a task, with the frames of who had it made if a thread had."""
        if not any(code.co_name == "callback" and code.co_filename == tasks.__file__ for code, _ in note.steps):
            return note
        coroutine = getattr(task, "get_coro", lambda: None)()  # a task factory may make something else
        known, where = self.frames.get(id(coroutine), (None, {}))
        # In the finalizer of both, the reference is dead.
        return note._replace(**where) if known is not None and known() in (coroutine, None) else note

    def tidy(self) -> None:
        """Forget those that are gone."""
        clear_away(self.frames)

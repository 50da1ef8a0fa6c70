"""asyncio tasks: noted when they are made, and held from the first tick that finds them pending."""

# Most tasks end between two ticks. Those cost the note alone: what a handle needs beyond it is worked out later, by
# the detector's thread, from the note of a task that is still pending. Nobody is told of a task's end: it is asked.

from __future__ import annotations

import asyncio
import functools
import re
import sys
import weakref
from asyncio import tasks
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._awaited import awaited, referred
from crawlo_otel_leaks.instrumentation._makers import ASKERS, Asker
from crawlo_otel_leaks.instrumentation._runners import MACHINERY, RunnerHandle, Runners, maker
from crawlo_otel_leaks.instrumentation._submitted import Submitted
from crawlo_otel_leaks.instrumentation._task_notes import REACH, ROOT, Note, above_of
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.owner import current_scope, current_task, this_span, this_thread
from crawlo_otel_leaks.tracker import current_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.tracker import Accelerator

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_CREATE: Final = tasks.create_task.__code__
_TOOLS: Final = (tasks.__file__, tasks.__file__.replace("tasks.py", "taskgroups.py"))
_DESTROYED: Final = "Task was destroyed but it is pending!"
_DEFAULT_NAME: Final = re.compile(r"Task-\d+")
_CHAIN: Final = 8
"""Tasks that await each other, followed to the one that waits for something else."""


class TaskHandle(RunnerHandle):
    """A task that is pending."""

    __slots__ = ()

    def needed(self) -> bool:
        """Whether somebody awaits it, by itself or in a group."""
        return awaited(self.ref())

    def step(self) -> object:
        """Return what it waits for."""
        waits = getattr(self.ref(), "_fut_waiter", self)
        if waits is self:  # no task of asyncio's own: its steps cannot be seen
            return None
        for _ in range(_CHAIN):
            deeper = getattr(waits, "_fut_waiter", None)
            if deeper is None:
                break
            waits = deeper
        return object() if waits is None else referred(waits)

    def loop_closed(self) -> bool:
        """Whether nothing will ever run it again."""
        task = self.ref()
        return task is not None and not task.done() and task.get_loop().is_closed()


class Tasks(Runners[TaskHandle]):
    """What stands in front of the loops' methods."""

    def __init__(self, running: Runtime) -> None:
        super().__init__(running.tracker)
        # By identity, so that a new task replaces an old one's note at the same place in memory: there are no more
        # notes than tasks were alive at once.
        self.notes: dict[int, tuple[Any, ...]] = running.tracker.stock.by_identity()
        self.submitted = Submitted(running.tracker)
        self._destroyed: list[tuple[Note, str, float]] = []

    def create_task(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a loop's create_task. All that is done here is paid for by each task."""
        if self.tracker.accelerator is not None:
            return self._maker(self.tracker.accelerator, original, live)
        # Names of this function's own are found fastest.
        notes: dict[int, Any] = self.notes
        fail, clock, getframe, ref = self.tracker.fail, self.tracker.clock, sys._getframe, weakref.ref  # noqa: SLF001
        current, context, scope, here = current_task, current_context, current_scope.get, this_thread
        create, root = _CREATE, ROOT

        def create_task(loop: Any, coro: Any, *, name: str | None = None, **kwargs: Any) -> Any:
            if kwargs:
                task = original(loop, coro, name=name, **kwargs)
            elif name is None:
                task = original(loop, coro)
            else:
                task = original(loop, coro, name=name)
            if live:
                try:
                    frame: Any = getframe(1)
                    if frame.f_code is create:
                        frame = frame.f_back
                    below, frame = frame, frame.f_back
                    above = frame is None or frame.f_code is root or above_of(frame)
                    by = current(loop)
                    notes[id(task)] = (
                        ref(task),
                        clock(),
                        context(),
                        by and ref(by),
                        scope(),
                        here.owner,
                        below.f_code,
                        below.f_lasti,
                        above,
                    )
                    if task._source_traceback:  # noqa: SLF001  (there in debug mode)
                        _hide(task)
                except Exception as error:  # noqa: BLE001  (the host has its task)
                    fail("create_task", error)
            return task

        return create_task

    def _maker(self, accelerator: Accelerator, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what does the same in C, without a frame of ours."""
        stand: Wrapped = accelerator.maker(
            wrapped=original,
            live=live,
            notes=self.notes,
            create_task=_CREATE,
            root=ROOT,
            reach=REACH,
            failed=functools.partial(self.tracker.fail, "create_task"),
            place=f"{original.__module__}:{original.__qualname__}",
        )
        return stand

    def complain(self, wrapped: Wrapped, loop: Any, args: Arguments, kwargs: Keywords) -> Any:
        """BaseEventLoop.call_exception_handler: how asyncio itself tells that a pending task was collected."""
        del loop
        try:
            self._note_destroyed(*args)
        except Exception as error:  # noqa: BLE001  (the host's handler is called in any case)
            self.tracker.fail("exception handler", error)
        return wrapped(*args, **kwargs)

    def _note_destroyed(self, context: dict[str, Any]) -> None:
        if context.get("message") != _DESTROYED:
            return
        task = context["task"]  # in its finalizer: there is no other at its place, and its references may be dead
        note, handle = self.notes.pop(id(task), None), self.held.pop(id(task), None)
        if note is not None:
            self._destroyed.append((self._noted(task, note), _name(task), self.tracker.clock()))
        elif handle is not None:
            self.tracker.abandon(handle)

    def look(self) -> None:
        """Take the notes of pending tasks for handles, those of others away, and what has ended off the shelf."""
        for key in list(self.notes):
            self._take(key)
        while self._destroyed:
            note, name, at = self._destroyed.pop()
            handle = self._handle(note, name)
            if handle is not None:
                handle.released_at = at
                self.tracker.abandoned.append(handle)
        self.submitted.tidy()
        self.count()

    def find(self, thing: object) -> TaskHandle | None:
        """Return the handle of a task, made now if need be."""
        note = self.notes.get(id(thing))
        if note is not None and note[0]() is thing:
            self._take(id(thing))
        return super().find(thing)

    def asker(self, task: Any) -> Asker | None:
        """Return who had a task made."""
        note = self.notes.get(id(task))
        if note is not None and note[0]() is task:
            return Asker(self._noted(task, note).steps, note[3])
        handle = super().find(task)
        return None if handle is None else Asker(handle.stack or handle.site.frames, handle.task)

    def over(self, handle: TaskHandle) -> bool:
        """Whether the task is done, or was collected after it was."""
        task = handle.ref()
        return task is None or task.done()

    def reset(self) -> None:
        """Forget all, in a forked child."""
        super().reset()
        self.notes.clear()
        self.submitted.frames.clear()
        self._destroyed.clear()

    def _take(self, key: int) -> None:
        note = self.notes.pop(key, None)
        task = note[0]() if note else None
        if note is None or task is None or task.done():
            return
        handle = self._handle(self._noted(task, note), _name(task))
        if handle is not None:
            self.begin(task, handle)
            self.tracker.hold(handle)
            handle.acquired_at = note[1]

    def _noted(self, task: Any, note: tuple[Any, ...]) -> Note:
        return self.submitted.asked(task, Note._make(note))

    def _handle(self, note: Note, name: str) -> TaskHandle | None:
        """Make a handle of a note; None for what is telemetry's, a server's or the loop's own."""
        steps = note.steps
        made_by = maker((code.co_filename for code, _ in steps), _TOOLS)
        if made_by in MACHINERY or self.tracker.closed or note.context.get(_SUPPRESS_INSTRUMENTATION_KEY):
            self.tracker.ignored += 1
            return None
        handle = TaskHandle(semconv.TASK, name)
        handle.ref, handle.runners = note.task, self
        handle.site, handle.stack = self.tracker.sites.of(steps, semconv.TASK)
        owner = note.maker() if note.maker else None
        handle.task, handle.task_name = note.maker, owner.get_name() if owner else None
        handle.span, handle.scope, handle.thread = this_span(note.context), note.scope, note.thread
        handle.acquired_at = note.at
        # A library's task, and one made by a callback, have nobody whose end they should not outlive.
        handle.shared = made_by is not None or note.maker is None
        return handle


def _hide(task: Any) -> None:
    """Take our own frame out of what debug mode shows of a task's origin."""
    if task._source_traceback[-1].filename == __file__:  # noqa: SLF001  (asyncio's own last line is taken out so)
        del task._source_traceback[-1]  # noqa: SLF001


def _name(task: asyncio.Task[Any]) -> str:
    """Return the name that the program gave it, else that of its coroutine."""
    name = task.get_name()
    if _DEFAULT_NAME.fullmatch(name):
        name = getattr(task.get_coro(), "__qualname__", name)
    return name


class TasksInstrumentor(Instrumentor):
    """Watches the tasks of asyncio's loops and of uvloop's."""

    handles = (TaskHandle,)
    _tasks: Tasks

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        self._tasks = watched = Tasks(running)
        running.attend(watched.find, watched.look, watched.reset)
        ASKERS.append(watched.asker)
        loops = (("asyncio.base_events", "BaseEventLoop"), ("uvloop", "Loop"))
        submit = watched.submitted.submit
        return [Point(module, "run_coroutine_threadsafe", submit) for module in ("asyncio.tasks", "asyncio")] + [
            point
            for module, loop in loops
            for point in (
                Point(module, f"{loop}.call_exception_handler", watched.complain, module),
                Point(module, f"{loop}.create_task", watched.create_task, module, direct=True),
            )
        ]

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        ASKERS.clear()

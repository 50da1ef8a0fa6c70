"""Who is acquiring now, and whether that owner has finished."""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.trace.propagation import _SPAN_KEY

from crawlo_otel_leaks.model import Handle, Owner, Scope, ThreadOwner
from crawlo_otel_leaks.sites import OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

current_scope: ContextVar[Scope | None] = ContextVar("crawlo_leaks_scope", default=None)
STARTER: Final = "_crawlo_leaks_starter"
"""Attribute of an SDK span that tells which task or thread started it; see `started_by`."""

CALLER: Final = "_crawlo_leaks_caller"
"""Attribute of an SDK span that an instrumentation opened around one call of its library: the span it was called in."""
MARKED: Final[list[None]] = []
"""Empty until a span has that: most programs have none, and need not look."""
_INSTRUMENTATIONS: Final = "opentelemetry.instrumentation."


class _ThisThread(threading.local):
    """The calling thread's description, made on its first acquisition."""

    def __init__(self) -> None:
        ident = threading.get_ident()
        # Not current_thread(): for a foreign thread it would register a dummy in the host for ever.
        thread = threading._active.get(ident)  # type: ignore[attr-defined]  # noqa: SLF001
        name = thread.name if thread else f"thread-{ident}"
        ref = weakref.ref(thread) if thread else None
        self.owner = ThreadOwner(ident, name, ref, is_main=thread is threading.main_thread())


this_thread: Final = _ThisThread()


running_loop: Final = asyncio._get_running_loop  # noqa: SLF001  (unlike the one without underscore it does not raise)
# Up to 3.11 `current_task` is this lookup, with a function around it.
current_task: Final[Callable[[Any], asyncio.Task[Any] | None]] = (
    asyncio.current_task if sys.version_info >= (3, 12) else asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001
)


def running_task() -> asyncio.Task[Any] | None:
    """Return the running task, None outside of one."""
    loop = running_loop()
    return None if loop is None else current_task(loop)


def this_task() -> weakref.ref[asyncio.Task[Any]] | None:
    """Return a reference to the running task, None outside of one."""
    task = running_task()
    return None if task is None else weakref.ref(task)


def this_starter() -> object:
    """Return what identifies the task, or else the thread, that runs now."""
    return this_task() or threading.get_ident()


class Unrecorded(trace.NonRecordingSpan):
    """Identity of a span that no sampler kept; the span itself dies when nobody runs under it any more."""

    def __init__(self, span: Span) -> None:
        super().__init__(span.get_span_context())
        self.ref = weakref.ref(span)


class Ended(trace.NonRecordingSpan):
    """Identity of a span that ended while its handle was held, without keeping its attributes alive."""

    def __init__(self, span: Span) -> None:
        super().__init__(span.get_span_context())
        setattr(self, STARTER, getattr(span, STARTER, None))


def note_start(span: Span, context: Context | None) -> None:
    """Note on a span that starts below `context` whose work its end is the end of.

    Another instrumentation's span around one call of its library ends with that call: what is
    acquired within belongs to the caller.
    """
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
    if getattr(span, "kind", None) is not trace.SpanKind.CLIENT or not scope.startswith(_INSTRUMENTATIONS):
        setattr(span, STARTER, this_starter())
        return
    above = trace.get_current_span(context)
    if above is not trace.INVALID_SPAN:
        if not MARKED:
            MARKED.append(None)
        setattr(span, CALLER, getattr(above, CALLER, None) or weakref.ref(above))


def this_span(context: Mapping[str, object]) -> Span | None:
    """Return the span of an OpenTelemetry context, None where there is none worth a name."""
    span = context.get(_SPAN_KEY)
    caller = getattr(span, CALLER, None) if MARKED else None
    if caller is not None:
        span = caller() or span
    if type(span) is not trace.NonRecordingSpan:
        return span  # type: ignore[return-value]  # contexts map to object
    return Unrecorded(span) if span.get_span_context().is_valid else None


def settle(handle: Handle) -> None:
    """Let go of a span that has ended: only its identity is needed from now on."""
    # By type, for spans are of an abstract class, which is asked in Python what is its instance.
    if handle.span is not None and type(handle.span) not in (Ended, Unrecorded) and span_finished(handle.span):
        handle.span = Ended(handle.span)


def span_finished(span: Span) -> bool:
    """Whether a span has ended, or, if it never recorded, is no longer anybody's current one."""
    if type(span) is Unrecorded:
        return span.ref() is None
    return not span.is_recording()


def _records(span: Span) -> bool:
    return span._end_time is None  # type: ignore[attr-defined]  # noqa: SLF001  (is compared with, never called)


def end_of(kind: type) -> str | None:
    """Return the attribute that spans of a type have None in as long as they record; None if only they can tell."""
    code, like = getattr(getattr(kind, "is_recording", None), "__code__", None), _records.__code__
    parts = [(one.co_code, one.co_names, one.co_consts) for one in (code, like) if one is not None]
    return like.co_names[0] if parts == 2 * parts[-1:] else None


def finished(handle: Handle, frames: Mapping[int, FrameType]) -> bool:
    """Whether every owner of the handle that can end has ended.

    Where the task (or thread) started the span itself, the span's end is its work's end. Otherwise the
    span is inherited and says nothing about longer work below it: then the task must have ended too,
    or the thread must have left the functions that acquired.
    """
    over = handle.task is not None and task_over(handle.task)
    if handle.span is None:
        return over
    if not span_finished(handle.span):
        return False
    if type(handle.span) is Unrecorded:  # longer work below it would keep it alive
        return True
    starter = getattr(handle.span, STARTER, None)
    if starter is not None and starter == (handle.task or handle.thread.ident):
        return True
    return over if handle.task else not working(handle, frames)


def working(handle: Handle, frames: Mapping[int, FrameType]) -> bool:
    """Whether the thread still executes one of the functions it acquired the handle in."""
    near = [code for code, _ in handle.site.frames]
    return any(code is step.f_code for step in _executing(frames.get(handle.thread.ident)) for code in near)


def task_over(ref: weakref.ref[asyncio.Task[Any]]) -> bool:
    """Whether a task has ended, or is gone."""
    task = ref()
    return task is None or task.done()


def used_by_another(handle: Handle, context: Mapping[str, object]) -> bool:
    """Whether who runs now, in `context`, is not whom the handle was taken for: its owner is done, or another trace."""
    span, owner = handle.span, None if handle.task is None else handle.task()
    if span is not None and span_finished(span):
        return True
    task = running_task()
    if task is owner and (task is not None or handle.task is None):
        return False
    here: Any = context.get(_SPAN_KEY)
    same_trace = span is not None and here is not None and (here is span or _trace_of(here) == _trace_of(span))
    return not same_trace or (handle.task is not None and (owner is None or owner.done()))


def _trace_of(span: Span) -> int:
    return span.get_span_context().trace_id


def adopt_global(handle: Handle) -> None:
    """Let a handle that a module names in a global belong to the process: nobody hands those back.

    A global of the main script is only shared: at exit it is still worth a word.
    """
    thing = handle.referent()
    for name in handle.site.modules if thing is not None else ():
        module = sys.modules.get(name)
        if module is not None and any(value is thing for value in list(vars(module).values())):
            handle.shared = True
            handle.process = handle.process or name != "__main__"


def acquiring_frame(handle: Handle, frames: Mapping[int, FrameType]) -> FrameType | None:
    """Return the frame of the function that acquired the handle, while its task or thread still executes it."""
    code = handle.site.frames[0][0]
    task = handle.task() if handle.task else None
    steps = _executing(frames.get(handle.thread.ident))
    if task is not None and not task.done():
        steps = chain(_awaiting(task), steps)
    return next((frame for frame in steps if frame.f_code is code), None)


def replaced(handle: Handle) -> bool:
    """Whether the same task or thread has acquired at the same line since: a loop's next round.

    What a local variable names now cannot be asked: up to Python 3.12, looking at a frame's locals
    keeps what they were alive.
    """
    latest = handle.site.latest
    if latest is None or latest is handle or latest.acquired_at < handle.acquired_at:
        return False
    return latest.thread is handle.thread and latest.task == handle.task


def _executing(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaiting(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    step: Any = task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None) or getattr(step, "ag_frame", None)
        if frame is None:
            return
        yield frame
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)


def thread_alive(owner: ThreadOwner) -> bool:
    """Whether a thread other than the main one is still at work."""
    thread = owner.ref() if owner.ref else None
    return not owner.is_main and thread is not None and thread.is_alive()


def describe(handle: Handle) -> Owner:
    """Resolve the handle's owner for telling."""
    context = handle.span.get_span_context() if handle.span else None
    scope = handle.scope
    facts = scope.attributes if scope else {}
    return Owner(
        thread=handle.thread.name,
        task=handle.task_name,
        spider=facts.get("spider"),
        run_id=facts.get("run_id"),
        scope=scope.name if scope else None,
        span=context if context and context.is_valid else None,
        span_recorded=bool(context and context.trace_flags.sampled),
    )


def current_frames() -> Mapping[int, FrameType]:
    """Return each thread's newest frame, of the calling thread that of whoever called this package.

    Our own frames would name the mapping, and so keep it, with every frame of the host and all its variables, until
    the collector finds the circle.
    """
    frames: dict[int, FrameType] = sys._current_frames()  # noqa: SLF001  (documented; the underscore is its name)
    ident = threading.get_ident()
    step: FrameType | None = frames.pop(ident, None)
    while step is not None and step.f_code.co_filename.startswith(OWN):
        step = step.f_back
    if step is not None:
        frames[ident] = step
    return frames

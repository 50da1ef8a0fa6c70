"""What is noted of a task when it is made."""

from __future__ import annotations

from asyncio import events
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import asyncio
    import weakref
    from types import CodeType, FrameType

    from opentelemetry.context import Context

    from crawlo_otel_leaks.model import Scope, Stack, ThreadOwner

REACH: Final = 10
"""Frames noted of whoever makes a task."""
ROOT: Final = events.Handle._run.__code__  # noqa: SLF001  (where asyncio's stacks begin)
_STEPS: Final = range(REACH)


class Note(NamedTuple):
    """What is known of a task when it is made; a plain tuple until then, which costs a third."""

    task: weakref.ref[asyncio.Task[Any]]
    at: float
    context: Context
    maker: weakref.ref[asyncio.Task[Any]] | None
    scope: Scope | None
    thread: ThreadOwner
    code: CodeType
    """Of the nearest frame."""
    instruction: int
    above: tuple[Any, ...] | bool
    """The frames above it, if any: code and instruction in turns, for one object costs the collector less than ten."""

    @property
    def steps(self) -> Stack:
        """The nearest frames, as they are noted elsewhere."""
        above = self.above if isinstance(self.above, tuple) else ()
        return ((self.code, self.instruction), *zip(above[::2], above[1::2], strict=True))


def above_of(frame: FrameType | None) -> tuple[Any, ...]:
    """Return the frames from `frame` on up to where the loop begins, code and instruction in turns."""
    steps: list[Any] = []
    add, root = steps.append, ROOT
    for _ in _STEPS:
        if frame is None or (code := frame.f_code) is root:
            break
        add(code)
        add(frame.f_lasti)
        frame = frame.f_back
    return tuple(steps)

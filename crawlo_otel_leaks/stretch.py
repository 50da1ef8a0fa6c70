"""Everything acquired since a moment: what of it is lost, or still held and used by nobody, right now."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from crawlo_otel_leaks import owner
from crawlo_otel_leaks.kinship import Kinship
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.watch import Watch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from crawlo_otel_leaks.model import Finding, Handle, Leak, Scope
    from crawlo_otel_leaks.rules import Facts
    from crawlo_otel_leaks.runtime import Runtime

MOST: Final = 10_000
"""Collected handles that a stretch remembers."""


class Caller(NamedTuple):
    """Whose stretch of work is being looked at: it is over, as far as whoever asks is concerned."""

    task: asyncio.Task[Any] | None
    thread: int

    @classmethod
    def here(cls) -> Caller:
        """Return who runs now."""
        return cls(owner.running_task(), threading.get_ident())

    def owns(self, handle: Handle) -> bool:
        """Whether the handle was acquired by it."""
        if handle.task is not None:
            return self.task is not None and handle.task() is self.task
        return self.task is None and handle.thread.ident == self.thread

    def runs_as(self, handle: Handle) -> bool:
        """Whether the handle is the task or thread that asks."""
        thing = handle.referent()
        if isinstance(thing, threading.Thread):
            return thing.ident == self.thread
        return thing is not None and thing is self.task


class Stretch:
    """What was acquired since its beginning, in the whole process or within a scope."""

    def __init__(self, running: Runtime, scope: Scope | None = None) -> None:
        self.running = running
        self.scope = scope
        self.since = running.tracker.clock()
        self.lost: list[Handle] = []
        _listen(running, self)

    def suspects(self, caller: Caller) -> list[tuple[Handle, Reason]]:
        """Return what was collected without release, and what is held that nobody works with.

        Nothing is told to anybody else: what may still be given back is no leak of the detector's yet.
        """
        try:
            self.running.refresh()
        except Exception as error:  # noqa: BLE001  (what was noted before is looked at)
            self.running.tracker.fail("refresh", error)
        # In this order: one may become the other meanwhile, and is then seen twice.
        lost = dict.fromkeys((*self._being_lost(), *list(self.lost)))
        return [(one, Reason.ABANDONED) for one in lost if self.covers(one)] + list(self._held(caller))

    def covers(self, handle: Handle) -> bool:
        """Whether it was acquired in this stretch."""
        if handle.acquired_at < self.since or self.running.detector.ignored(handle):
            return False
        return self.scope is None or _within(handle.scope, self.scope)

    def _being_lost(self) -> Sequence[Handle]:
        """Return what was collected since the last tick, parts of other handles left out."""
        while True:
            try:
                pending = list(self.running.tracker.abandoned)
            except RuntimeError:  # another was collected meanwhile
                continue
            return [handle for handle in pending if handle.part_of is None]

    def _held(self, caller: Caller) -> Iterator[tuple[Handle, Reason]]:
        tracker = self.running.tracker
        kin, frames = Kinship(tracker), owner.current_frames()
        for handle in tracker.held():
            if self.covers(handle) and not caller.runs_as(handle) and kin.holder(handle) is None:
                reason = _reason(handle, caller, frames, tracker.clock())
                if reason is not None and handle.released_at is None:
                    yield handle, reason


def _reason(handle: Handle, caller: Caller, frames: Mapping[int, FrameType], now: float) -> Reason | None:
    """Return why it should have been given back by now; None where somebody works with it or keeps it on purpose."""
    owner.adopt_global(handle)
    watch = Watch(handle, float("inf"))
    watch.look(now, 0.0, frames)
    facts = watch.look(now, 0.0, frames)  # what differs at the second look is in use
    if facts.process or facts.in_use or (handle.kept and not (handle.scope and handle.scope.thorough)):
        return None
    if facts.loop_closed_for is not None:
        return Reason.LOOP_CLOSED
    if caller.owns(handle) or facts.scope_ended_for is not None:
        return Reason.SCOPE_END
    at_hand = facts.shared or (facts.running and not facts.replaced)
    return Reason.OWNER_FINISHED if _is_done(handle, facts, frames) and not at_hand else None


def _is_done(handle: Handle, facts: Facts, frames: Mapping[int, FrameType]) -> bool:
    """Whether whoever acquired it is done: its task has ended, or its thread has left the functions it did it in.

    An open span excuses nothing here: it may well be that of the whole stretch.
    """
    if facts.owner_finished_for is not None:
        return True
    return owner.task_over(handle.task) if handle.task is not None else not owner.working(handle, frames)


def _within(scope: Scope | None, outer: Scope) -> bool:
    while scope is not None and scope is not outer:
        scope = scope.parent
    return scope is outer


class _Listener:
    """A sink that tells the stretches under way what was collected without release."""

    def __init__(self) -> None:
        self.stretches: WeakSet[Stretch] = WeakSet()

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Note one that was collected."""
        del finding
        if leak.reason is Reason.ABANDONED:
            for stretch in self.stretches.copy():
                if len(stretch.lost) < MOST:
                    stretch.lost.append(leak.handle)

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Nothing: what was collected stays so."""

    def released(self, handles: Sequence[Handle]) -> None:
        """Nothing."""


_lock: Final = threading.Lock()


def _listen(running: Runtime, stretch: Stretch) -> None:
    with _lock:
        sinks = running.detector.sinks
        listener = next((sink for sink in sinks if isinstance(sink, _Listener)), None)
        if listener is None:
            listener = _Listener()
            sinks.append(listener)
        listener.stretches.add(stretch)

"""One old handle under observation: what was seen of it so far, and when to look again."""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING

from crawlo_otel_leaks import owner
from crawlo_otel_leaks.rules import Facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from crawlo_otel_leaks.agenda import Turn
    from crawlo_otel_leaks.model import Handle, Leak

BACKOFF = 8
"""A handle is looked at again after an eighth of its age ..."""
_NEVER = object()
_UNTOUCHED = object()
LONGEST = 60.0
"""... but at the latest after so many seconds."""


class Watch:
    """What successive looks at one handle have shown. Times are monotonic seconds."""

    __slots__ = (
        "_finished_at",
        "_loop_closed_at",
        "_moved_at",
        "_token",
        "_told",
        "brought_forward",
        "handle",
        "threshold",
        "turn",
    )

    def __init__(self, handle: Handle, threshold: float, *, seen: bool = False) -> None:
        """Begin to watch; `seen` tells that it was looked at before, and was as it had been when it was acquired."""
        self.handle = handle
        self.threshold = threshold
        self.turn: Turn | None = None
        """When it is looked at next."""
        self.brought_forward = False
        """Whether it has an earlier turn than the one that it was given before, which comes all the same."""
        self._told: Leak | None = None
        self._token: object = _UNTOUCHED if seen else _NEVER
        self._moved_at = handle.acquired_at
        self._finished_at: float | None = None
        self._loop_closed_at: float | None = None

    @property
    def seen(self) -> bool:
        """Whether the handle was looked at."""
        return self._token is not _NEVER

    @property
    def blank(self) -> bool:
        """Whether there is nothing to it: when the handle was looked at, it was as it was when it was acquired."""
        unmoved = self._token in (_NEVER, _UNTOUCHED) and self._moved_at == self.handle.acquired_at
        told = self.brought_forward, self._told, self._finished_at, self._loop_closed_at
        return unmoved and told == (False, None, None, None)

    @property
    def leak(self) -> Leak | None:
        """What the handle is accused of now."""
        told = self._told
        return told if told is not None and told.resolved_at is None else None

    @property
    def former(self) -> Leak | None:
        """What was resolved by use; if it comes back, it is no new one."""
        told = self._told
        return told if told is not None and told.resolved_at is not None else None

    def accuse(self, leak: Leak) -> None:
        """Note a verdict; that it is resolved it says itself."""
        self._told = leak

    def look(
        self,
        now: float,
        grace: float,
        frames: Mapping[int, FrameType],
        *,
        exiting: bool = False,
        part: bool = False,
    ) -> Facts:
        """Gather the facts as they are `now`; `part` tells that another handle answers for it.

        The `crowd` in them is the handle alone.
        """
        handle = self.handle
        owner.settle(handle)
        moved, known = self._progress(now)
        if part:  # when it is none any more, its own time begins
            moved, self._moved_at = True, now
        if moved:
            self._finished_at = None
        self._finished_at = self._since(self._finished_at, now, state=owner.finished(handle, frames))
        self._loop_closed_at = self._since(self._loop_closed_at, now, state=handle.loop_closed())
        idle = now - self._moved_at
        busy = moved or handle.busy()
        frame = None if exiting else owner.acquiring_frame(handle, frames)
        threshold = inf if handle.lasting else self.threshold
        stuck = not known and not busy and frame is None and idle > threshold
        return Facts(
            age=now - handle.acquired_at,
            idle=idle if known else None,
            in_use=busy,
            running=frame is not None,
            replaced=owner.replaced(handle),
            threshold=threshold,
            grace=grace,
            owner_finished_for=_lasted(self._finished_at, now),
            loop_closed_for=_lasted(self._loop_closed_at, now),
            scope_ended_for=_lasted(_scope_end(handle), now),
            crowd=int(stuck),
            part=part,
            exiting=exiting,
            process=handle.process,
            shared=handle.shared or (handle.shareable and handle.single()),
            owner_alive=handle.cut_off or owner.thread_alive(handle.thread),
        )

    def next_look(self, now: float, interval: float, grace: float) -> float:
        """Return when to look again: soon while something is about to fall due, else ever more rarely."""
        age, step = now - self.handle.acquired_at, interval / BACKOFF
        waits = [min(max(interval, age / BACKOFF), LONGEST)]
        if not (self.handle.process or self.leak):
            due = (self._finished_at, self._loop_closed_at)
            waits += [since + grace - now for since in due if since is not None and since + grace > now]
            left = self.threshold - (now - self._moved_at)
            if left >= 0:
                waits.append(left + step)
        return now + max(ceil(min(waits) / step), 1) * step  # whole steps, so that many have the same turn

    def _progress(self, now: float) -> tuple[bool, bool]:
        """Return whether the handle was used since the last look, and whether that can be seen at all."""
        seen = self.handle.progress()
        token = _UNTOUCHED if seen.untouched or seen.token is None else seen.token
        first, moved = self._token is _NEVER, token != self._token
        self._token = token
        if (first and seen.untouched is False) or (moved and not first):
            self._moved_at = now
        return moved and not first, seen.visible

    @staticmethod
    def _since(before: float | None, now: float, *, state: bool) -> float | None:
        if not state:
            return None
        return now if before is None else before


def _scope_end(handle: Handle) -> float | None:
    scope = handle.scope
    return None if scope is None or (handle.kept and not scope.thorough) else scope.ended_at


def _lasted(since: float | None, now: float) -> float | None:
    return None if since is None else now - since

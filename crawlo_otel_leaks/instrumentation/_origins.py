"""Where a coroutine was asked for, found again from the frames that execute below it."""

from __future__ import annotations

import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from crawlo_otel_leaks.model import Handle


class _Asked(weakref.ref[Coroutine[Any, Any, Any]]):
    """A coroutine, and where it was asked for."""

    __slots__ = ("key", "origin")
    key: int
    origin: Handle


class Origins:
    """The coroutines that are under way. They stay the library's own: what they call finds their frames."""

    def __init__(self) -> None:
        self._by_frame: dict[int, _Asked] = {}

    def add(self, coroutine: Any, origin: Handle) -> None:
        """Note where a coroutine that has not started was asked for; of another awaitable, nothing is noted."""
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            asked = _Asked(coroutine, self._forget)
            asked.key, asked.origin = id(frame), origin
            self._by_frame[asked.key] = asked

    def of(self, frame: FrameType | None) -> Handle | None:
        """Return where the coroutine was asked for that executes in `frame`."""
        asked = self._by_frame.get(id(frame))
        # One that has finished has no frame any more; the frame's id may be another's by now.
        if frame is None or asked is None or getattr(asked(), "cr_frame", None) is not frame:
            return None
        return asked.origin

    def nearest(self, frame: FrameType | None) -> Handle | None:
        """Return where the innermost coroutine was asked for that `frame` is part of."""
        by_frame = self._by_frame
        while frame is not None:
            if id(frame) in by_frame:
                origin = self.of(frame)
                if origin is not None:
                    return origin
            frame = frame.f_back
        return None

    def _forget(self, asked: Any) -> None:
        self._by_frame.pop(asked.key, None)

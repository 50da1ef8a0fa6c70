"""Where a coroutine was asked for, found again from the frames that execute below it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from crawlo_otel_leaks.stock import PLAIN, Stock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle

H = TypeVar("H", bound="Handle")
T = TypeVar("T")
FEW: Final = 1000
"""Notes that are kept without a look at which of them are of something that is over."""


class Origins(Generic[H]):
    """The coroutines that are under way. They stay the library's own: what they call finds their frames.

    A new one's note replaces an old one's at the same place in memory. On 3.11 and 3.12 a frame is hardly ever where
    one was before: there, what is left of those that are over is cleared away at each tick, as one of its `chores`,
    and whenever there are twice as many as the last time.
    """

    def __init__(self, chores: list[Callable[[], None]], stock: Stock = PLAIN) -> None:
        self.by_frame: dict[int, tuple[weakref.ref[Any], H]] = stock.by_identity()
        """By the identity of their frames."""
        self._most = FEW
        chores.append(self.tidy)

    def add(self, coroutine: Any, origin: H) -> None:
        """Note where a coroutine that has not started was asked for; of another awaitable, nothing is noted."""
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            self.by_frame[id(frame)] = weakref.ref(coroutine), origin
            if len(self.by_frame) > self._most:
                self.tidy()

    def of(self, frame: FrameType | None) -> H | None:
        """Return where the coroutine was asked for that executes in `frame`."""
        asked, origin = self.by_frame.get(id(frame), (None, None))
        # One that has finished has no frame any more; the frame's id may be another's by now.
        if frame is None or asked is None or getattr(asked(), "cr_frame", None) is not frame:
            return None
        return origin

    def nearest(self, frame: FrameType | None) -> H | None:
        """Return where the innermost coroutine was asked for that `frame` is part of."""
        by_frame = self.by_frame
        while frame is not None:
            if id(frame) in by_frame:
                origin = self.of(frame)
                if origin is not None:
                    return origin
            frame = frame.f_back
        return None

    def tidy(self) -> None:
        """Forget the coroutines that are gone."""
        clear_away(self.by_frame)
        self._most = max(FEW, 2 * len(self.by_frame))


def clear_away(notes: dict[int, tuple[weakref.ref[Any], T]]) -> None:
    """Take the notes of what is gone out of those that are kept by identity."""
    for key, note in list(notes.items()):
        if note[0]() is None:
            newer = notes.pop(key, note)
            if newer is not note:  # another thread was quicker
                notes.setdefault(key, newer)

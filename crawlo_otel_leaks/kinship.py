"""What is part of what: a connection that leaks answers for its socket, which is then no leak of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.tracker import Tracker

HOLDERS: Final = tuple(kind for kind in semconv.KINDS if kind not in (semconv.TASK, semconv.THREAD))
"""Kinds whose handles may explain descriptors."""
SHOWN: Final = 10
"""Parts that a leak names."""


class Kinship:
    """Finds the holder of a handle by the descriptor that both stand for; `begin` at each tick, for it may change.

    What is acquired inside of another acquisition ends up below its descriptor, whichever task, thread or
    earlier request of a pool opened it; and on the hot path this costs nothing.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._lost: tuple[frozenset[Handle], frozenset[Handle]] = (frozenset(), frozenset())
        self.begin()

    def begin(self) -> None:
        """Forget what held what at the last tick."""
        self._holders: dict[int, Handle] | None = None
        self._elements: dict[int, Handle] | None = None

    def lose(self, abandoned: Iterable[Handle]) -> None:
        """Note what was collected since the last tick: parts are told apart from their holders by it."""
        self._lost = (self._lost[1], frozenset(abandoned))

    def holder(self, handle: Handle) -> Handle | None:
        """Return the handle that answers for an elementary one while it is held; none for any other."""
        if not handle.elementary:
            return None
        known = handle.part_of
        if known is None or known.released_at is not None:
            known = self._found(handle)
            handle.join(known)
        return known

    def answered(self, handle: Handle) -> bool:
        """Whether a collected handle was part of one that was collected with it, or is still held."""
        holder = handle.part_of
        if holder is None:
            return False
        return holder.released_at is None or any(holder in lost for lost in self._lost)

    def parts(self, handle: Handle) -> tuple[str, ...]:
        """Say what a handle holds: elementary handles by name, and descriptors that no other handle stands for."""
        if handle.elementary:
            return ()
        if self._elements is None:
            self._elements = self._by_descriptor(elementary=True)
        known = self._elements
        numbers = list(descriptors(self._tracker, handle))[:SHOWN]
        return tuple(_named(number, known.get(number)) for number in numbers)

    def _found(self, handle: Handle) -> Handle | None:
        if self._holders is None:
            self._holders = self._by_descriptor(elementary=False)
        if not self._holders:
            return None
        return next((one for n in descriptors(self._tracker, handle) if (one := self._holders.get(n))), None)

    def _by_descriptor(self, *, elementary: bool) -> dict[int, Handle]:
        handles = (handle for handle in self._tracker.held(HOLDERS) if handle.elementary is elementary)
        return {number: handle for handle in handles for number in descriptors(self._tracker, handle)}


def descriptors(tracker: Tracker, handle: Handle) -> Iterable[int]:
    """Return the open descriptors that a handle stands for; none while its object is being closed."""
    try:
        return handle.descriptors()
    except (OSError, ValueError):  # closed between two looks
        return ()
    except Exception as error:  # noqa: BLE001  (another release of a library; it explains nothing then)
        tracker.fail(f"{type(handle).__name__}.descriptors", error)
        return ()


def _named(number: int, handle: Handle | None) -> str:
    return f"descriptor {number}" if handle is None else f"{handle.kind} {handle.label()} (descriptor {number})"

"""What stands for aiohttp's sessions and connector slots, and how their use is seen."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation import _descriptors
from crawlo_otel_leaks.model import NamedHandle, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self


class LoopHandle(NamedHandle):
    """A handle for one of aiohttp's objects, which all belong to a loop."""

    __slots__ = ("loop", "ref")
    loop: weakref.ref[Any]
    ref: weakref.ref[Any]

    def loop_closed(self) -> bool:
        """Whether the object's loop is closed, or gone."""
        loop = self.loop()
        return loop is None or loop.is_closed()

    def referent(self) -> object | None:
        """Return the object while it lives."""
        return self.ref()


class SessionHandle(LoopHandle):
    """A ClientSession that is not closed."""

    __slots__ = ("connector", "requests")
    connector: int
    """Identity of its connector, whose closing ends it."""
    shareable = True

    def of(self, thing: Any, connector: object) -> Self:
        """Refer to the session, weakly, before its first request."""
        self.requests, self.connector = 0, id(connector)
        self.ref = weakref.ref(thing)
        self.loop = weakref.ref(thing._loop)  # noqa: SLF001  (aiohttp has no public name for it)
        return self

    def progress(self) -> Progress:
        """Tell use by the number of requests."""
        return Progress(self.requests, untouched=self.requests == 0)

    def descriptors(self) -> Iterable[int]:
        """Return those of the idle connections that its connector keeps."""
        kept = getattr(getattr(self.ref(), "_connector", None), "_conns", {})
        protocols = [entry[0] for entries in list(kept.values()) for entry in list(entries)]
        return [number for one in protocols for number in _descriptors.of(getattr(one, "transport", None))]


class ConnectionHandle(LoopHandle):
    """A connector slot, held by a response or websocket."""

    __slots__ = ("through", "websocket")
    through: weakref.ref[Any] | None
    """The connector, None while it goes through none yet."""
    websocket: weakref.ref[Any]

    def progress(self) -> Progress:
        """Tell use by the bytes that came in, those that were read, and those that a websocket sent."""
        protocol = self._protocol()
        if protocol is None:
            return Progress(visible=False)
        payload = getattr(protocol, "_payload", None)
        counts = tuple(getattr(payload, name, 0) for name in ("total_bytes", "_size", "_cursor"))
        sent = getattr(getattr(self.websocket(), "_writer", None), "_output_size", 0)
        return Progress((id(payload), *counts, sent), visible=not getattr(protocol, "upgraded", False))

    def busy(self) -> bool:
        """Whether somebody awaits a message, or bytes of a body, right now."""
        protocol = self._protocol()
        waiting = (protocol, getattr(protocol, "_payload", None))
        receiving = getattr(self.websocket(), "_waiting", False)  # a future in 3.9, a flag later
        return bool(receiving) or any(getattr(one, "_waiter", None) is not None for one in waiting)

    def descriptors(self) -> Iterable[int]:
        """Return the descriptor of the socket below."""
        return _descriptors.of(getattr(self._protocol(), "transport", None))

    def _protocol(self) -> Any:
        return getattr(self.ref(), "_protocol", None)

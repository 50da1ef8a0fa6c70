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

    __slots__ = ("ref",)
    ref: weakref.ref[Any] | None
    """None while there is no object yet."""

    def called(self, thing: object) -> str:
        """Return what the object is called, which is no secret."""
        del thing
        return self.name

    def goes_through(self, connector: object) -> bool:
        """Whether it is a slot of that connector."""
        del connector
        return False

    def referent(self) -> Any:
        """Return the object while it lives."""
        return self.ref() if self.ref else None


class SessionHandle(LoopHandle):
    """A ClientSession that is not closed."""

    __slots__ = ("connector", "loop", "requests")
    loop: weakref.ref[Any]
    connector: int
    """Identity of its connector, whose closing ends it."""
    shareable = True

    def of(self, thing: Any, connector: object) -> Self:
        """Refer to the session, weakly, before its first request."""
        self.requests, self.connector = 0, id(connector)
        self.ref = weakref.ref(thing)
        self.loop = weakref.ref(thing._loop)  # noqa: SLF001  (aiohttp has no public name for it)
        return self

    def loop_closed(self) -> bool:
        """Whether the session's loop is closed, or gone."""
        loop = self.loop()
        return loop is None or loop.is_closed()

    def progress(self) -> Progress:
        """Tell use by the number of requests."""
        return Progress(self.requests, untouched=self.requests == 0)

    def descriptors(self) -> Iterable[int]:
        """Return those of the idle connections that its connector keeps."""
        kept = getattr(getattr(self.referent(), "_connector", None), "_conns", {})
        protocols = [entry[0] for entries in list(kept.values()) for entry in list(entries)]
        return [number for one in protocols for number in _descriptors.of(getattr(one, "transport", None))]


class ConnectionHandle(LoopHandle):
    """A connector slot, held by a response or websocket; its name is read when somebody asks, and kept at its end."""

    __slots__ = ("websocket",)
    websocket: weakref.ref[Any]

    def called(self, thing: object) -> str:
        """Return where its connection leads; a key that aiohttp never had raises whatever it lacks."""
        key: Any = getattr(thing, "_key", None)
        if self.name or key is None:
            return self.name
        return f"{'https' if key.is_ssl else 'http'}://{key.host}:{key.port}"

    def label(self) -> str:
        """What a person calls it: an origin."""
        try:
            return self.called(self.referent())
        except Exception:  # noqa: BLE001  (a slot without a name is a leak all the same; at its end this is counted)
            return self.name

    def goes_through(self, connector: object) -> bool:
        """Whether it is a slot of that connector."""
        return connector is getattr(self.referent(), "_connector", None)

    def loop_closed(self) -> bool:
        """Whether the connection's loop is closed."""
        loop: Any = getattr(self.referent(), "_loop", None)
        return loop is not None and bool(loop.is_closed())

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
        return getattr(self.referent(), "_protocol", None)

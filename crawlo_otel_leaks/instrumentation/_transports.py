"""asyncio's transports, servers and streams: which loop a socket belongs to, and what is dropped with it."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._wrapping import Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.instrumentation._sockets import Sockets
    from crawlo_otel_leaks.instrumentation._uvloop import UvTransports
    from crawlo_otel_leaks.model import Handle

    Wrapped = Callable[..., Any]


class Transports:
    """What stands in front of the methods of asyncio's own classes."""

    def __init__(self, sockets: Sockets, others: UvTransports) -> None:
        self._sockets = sockets
        self._others = others

    def points(self) -> list[Point]:
        """Return the table."""
        selector, tls = "asyncio.selector_events", "asyncio.sslproto"
        return [
            Point(selector, "_SelectorTransport.__del__", self.drop, selector, direct=True),
            Point(selector, "_SelectorTransport.close", self.close, selector, direct=True),
            Point(selector, "_SelectorTransport._force_close", self.close, selector, direct=True),
            Point(selector, "_SelectorTransport.__init__", self.create, selector, direct=True),
            Point(tls, "_SSLProtocolTransport.__del__", self.drop, tls, direct=True),
            Point(tls, "_SSLProtocolTransport.close", self.close, tls, direct=True),
            Point(tls, "_SSLProtocolTransport.abort", self.close, tls, direct=True),
            Point("asyncio.streams", "StreamWriter.__del__", self.drop_writer, optional=True, direct=True),
            Point("asyncio.base_events", "Server.__init__", self.serve, direct=True),
        ]

    def create(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a transport's `__init__`."""

        def create(transport: Any, loop: Any, sock: Any, *args: Any, **kwargs: Any) -> None:
            original(transport, loop, sock, *args, **kwargs)
            if live:
                self._sockets.safely("transport", self._belongs, sock, loop, transport)

        return create

    def close(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a method that begins to close: what happens then is up to the loop."""

        def close(transport: Any, *args: Any) -> Any:
            handle = self._of(transport) if live else None
            if handle is not None:
                handle.closing = True
            return original(transport, *args)

        return close

    def drop(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a transport's `__del__`, which closes the socket as if somebody had asked for it."""

        def drop(transport: Any) -> None:
            sock = _socket(transport) if live else None
            if sock is not None:
                self._sockets.safely("transport drop", self._sockets.dropped, sock)
            original(transport)

        return drop

    def drop_writer(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a stream writer's `__del__`, which closes its transport."""

        def drop(writer: Any) -> None:
            if live:
                self._sockets.safely("writer drop", self._dropped_writer, writer)
            original(writer)

        return drop

    def serve(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a server's `__init__`."""

        def serve(server: Any, loop: Any, sockets: Any, *args: Any, **kwargs: Any) -> None:
            original(server, loop, sockets, *args, **kwargs)
            for sock in sockets if live else ():
                self._sockets.safely("server", self._belongs, sock, loop, None)

        return serve

    def find(self, thing: object) -> Handle | None:
        """Return the handle of the socket below a transport or stream writer of asyncio's."""
        if isinstance(thing, asyncio.StreamWriter):
            thing = thing.transport
        if isinstance(thing, asyncio.BaseTransport):
            found: Handle | None = self._of(thing)
            return found
        return self._others.find(thing)

    def _belongs(self, sock: Any, loop: Any, transport: Any) -> None:
        handle = self._sockets.of(sock)
        if handle is not None:
            handle.loop = weakref.ref(loop)
            if transport is not None:
                handle.transport = weakref.ref(transport)

    def _dropped_writer(self, writer: Any) -> None:
        transport = writer.transport
        if not transport.is_closing():
            sock = _socket(transport)
            if sock is None:
                self._others.abandon(transport)
            else:
                self._sockets.dropped(sock)

    def _of(self, transport: Any) -> Any:
        return self._sockets.of(_socket(transport))


def _socket(transport: Any) -> Any:
    """Return the socket of an asyncio transport that has not let go of it, of the one below TLS."""
    if getattr(transport, "_closed", False) is True:
        return None
    protocol = getattr(transport, "_ssl_protocol", None)
    if protocol is not None:
        transport = getattr(protocol, "_transport", None)
    return getattr(transport, "_sock", None)

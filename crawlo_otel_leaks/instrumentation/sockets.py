"""Sockets: socket.socket and all that is made of it, asyncio's transports and servers among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlo_otel_leaks.instrumentation import _transports, _uvloop
from crawlo_otel_leaks.instrumentation._socket_handles import SocketHandle
from crawlo_otel_leaks.instrumentation._sockets import Sockets
from crawlo_otel_leaks.instrumentation._uvloop import ServerHandle, TransportHandle, UvServers, UvTransports
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from crawlo_otel_leaks.runtime import Runtime


class SocketsInstrumentor(Instrumentor):
    """Watches the sockets of the process."""

    handles = (SocketHandle, TransportHandle, ServerHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table: the ends of a socket before its beginning."""
        watched = Sockets(running)
        ours, servers = UvTransports(running.tracker), UvServers(running.tracker)
        transports = _transports.Transports(watched, ours)
        running.finders += [watched.find, transports.find, servers.find]
        running.tracker.chores += [watched.count, ours.count, servers.count]
        running.tracker.resets += [watched.reset, ours.reset, servers.reset]
        return [
            Point("socket", "socket._real_close", watched.close, "socket", direct=True),
            Point("socket", "socket.detach", watched.detach, "socket", direct=True),
            Point("socket", "socket.__del__", watched.finalizer, "socket", direct=True),
            Point("socket", "socket.accept", watched.accept, "socket", direct=True),
            Point("socket", "socket.__init__", watched.create, "socket", direct=True),
            *transports.points(),
            *_uvloop.points(ours, servers),
        ]

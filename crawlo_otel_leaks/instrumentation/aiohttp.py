"""aiohttp clients: sessions from creation to close, and the connector slots that responses hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._aiohttp_client import Client
from crawlo_otel_leaks.instrumentation._aiohttp_handles import ConnectionHandle, SessionHandle
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from crawlo_otel_leaks.runtime import Runtime


class AiohttpInstrumentor(Instrumentor):
    """Watches aiohttp 3.9 and later."""

    library = "aiohttp"
    requires = "aiohttp >= 3.9"
    handles = (SessionHandle, ConnectionHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table: of what belongs together, the ends before the beginning."""
        client = Client(running.tracker)
        running.finders.append(client.find)
        way, swift = client.way, running.tracker.accelerator is not None
        sessions, connector, slot = "aiohttp.client", "aiohttp.connector", semconv.HTTP_CONNECTION
        direct = swift or sys.version_info >= (3, 12)
        ask = way("ask", client.asked) if direct else client.ask
        give_back, drop = way("give_back", client.given_back), way("drop", client.connection_dropped)
        return [
            Point(sessions, "ClientSession.close", client.closed, semconv.HTTP_SESSION),
            Point(sessions, "ClientSession.detach", client.detached, semconv.HTTP_SESSION),
            Point(sessions, "ClientSession.__del__", client.dropped, semconv.HTTP_SESSION),
            Point(sessions, "ClientSession.__init__", client.opened, semconv.HTTP_SESSION),
            Point(sessions, "ClientSession._request", ask, direct=direct),
            Point(sessions, "ClientSession._ws_connect", ask, direct=direct),
            Point("aiohttp.client_ws", "ClientWebSocketResponse.__init__", client.upgraded),
            Point(connector, "BaseConnector._close", client.connector_closed, slot),
            Point(connector, "Connection.release", give_back, slot, direct=True),
            Point(connector, "Connection.close", give_back, slot, direct=True),
            Point(connector, "Connection.__del__", drop, slot, direct=True),
            Point(connector, "Connection.__init__", way("take", client.taken), slot, direct=True),
            Point(connector, "TCPConnector._create_connection", client.connect, direct=True),
            Point(connector, "UnixConnector._create_connection", client.connect, direct=True),
        ]

"""httpx and httpx2, of one shape: clients, and the connections of their pools that their responses hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._http_sessions import Sessions
from crawlo_otel_leaks.instrumentation._httpx_handles import ClientHandle, SlotHandle
from crawlo_otel_leaks.instrumentation._httpx_pools import Slots
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.model import Handle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_CALLS: Final = ("request", "send", "get", "options", "head", "post", "put", "patch", "delete")
"""The coroutines of a client that make a request."""


class _Clients(Sessions):
    """Clients, sync and asyncio, and where their coroutines are called."""

    def __init__(self, running: Runtime, library: str, slots: Slots) -> None:
        super().__init__(running, library, ClientHandle)
        self._slots = slots

    def closed_async(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a coroutine that closes a client: it ends it when it is awaited, not when it is called."""
        closing: Any = self._closing(wrapped, session, args, kwargs)
        # What asyncio and `never awaited` warnings call it.
        closing.__name__, closing.__qualname__ = wrapped.__name__, wrapped.__qualname__
        return closing

    async def _closing(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        self.end(session)
        return await wrapped(*args, **kwargs)

    def asked(self, wrapped: Wrapped, client: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a coroutine that makes a request: note who calls, before anything is awaited."""
        request = wrapped(*args, **kwargs)
        self._safely("call", self._note_call, client, request, sys._getframe(1))  # noqa: SLF001
        return request

    def _note_call(self, client: Any, request: Any, frame: FrameType) -> None:
        origin = self._slots.requests.of(frame)  # `get` calls `request`, and that `send`
        if origin is None:
            self.use(client)
            origin = self._tracker.locate(Handle(semconv.HTTP_CONNECTION), frame)
        if origin is not None:
            self._slots.requests.add(request, origin)


def told(wrapped: Wrapped, transport: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Stand in front of a transport: what was noted on the pool's exception goes on to the client's."""
    del transport
    try:
        return wrapped(*args, **kwargs)
    except Exception as error:
        _hand_on(error)
        raise


async def told_async(wrapped: Wrapped, transport: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Stand in front of an asyncio transport in the same way."""
    del transport
    try:
        return await wrapped(*args, **kwargs)
    except Exception as error:
        _hand_on(error)
        raise


def _hand_on(error: BaseException) -> None:
    notes = getattr(error.__cause__, "__notes__", None)
    if notes and not hasattr(error, "__notes__"):
        setattr(error, "__notes__", list(notes))  # noqa: B010  (PEP 678's name, which 3.10 has no type for)


class _Httpx(Instrumentor):
    """What both have in common. There is one object of each class: neither may derive from the other."""

    core: str
    """What has its pools."""
    handles = (SlotHandle, ClientHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        running.tracker.sites.hide(self.core)
        slots = Slots(running, self.library)
        return [*self._of_clients(_Clients(running, self.library, slots)), *self._of_pools(slots)]

    def _of_clients(self, clients: _Clients) -> list[Point]:
        module, transports = f"{self.library}._client", f"{self.library}._transports.default"
        return [
            Point(module, "Client.close", clients.closed, "sync client"),
            Point(module, "Client.__exit__", clients.closed, "sync client"),
            Point(module, "Client.send", clients.used),
            Point(module, "Client.__init__", clients.opened, "sync client"),
            Point(module, "AsyncClient.aclose", clients.closed_async, "client"),
            Point(module, "AsyncClient.__aexit__", clients.closed_async, "client"),
            *(Point(module, f"AsyncClient.{name}", clients.asked) for name in _CALLS),
            Point(module, "AsyncClient.query", clients.asked, optional=True),  # httpx2 has it
            Point(module, "AsyncClient.__init__", clients.opened, "client"),
            Point(transports, "HTTPTransport.handle_request", told),
            Point(transports, "AsyncHTTPTransport.handle_async_request", told_async),
        ]

    def _of_pools(self, slots: Slots) -> list[Point]:
        sync, asyn = f"{self.core}._sync.connection_pool", f"{self.core}._async.connection_pool"
        # The first of two names is that of httpcore 1.0.3 and later. Without `handle_request`, waiting is not watched.
        return [
            Point(sync, "PoolByteStream.close", slots.close_stream, optional=True),
            Point(sync, "ConnectionPoolByteStream.close", slots.close_stream, optional=True),
            Point(sync, "PoolRequest.wait_for_connection", slots.wait, optional=True),
            Point(sync, "RequestStatus.wait_for_connection", slots.wait, optional=True),
            Point(sync, "ConnectionPool.close", slots.terminate, sync),
            Point(sync, "ConnectionPool.handle_request", slots.handle_request, sync),
            Point(asyn, "PoolByteStream.aclose", slots.close_async_stream, optional=True),
            Point(asyn, "ConnectionPoolByteStream.aclose", slots.close_async_stream, optional=True),
            Point(asyn, "AsyncPoolRequest.wait_for_connection", slots.wait_async, optional=True),
            Point(asyn, "RequestStatus.wait_for_connection", slots.wait_async, optional=True),
            Point(asyn, "AsyncConnectionPool.aclose", slots.terminate_async, asyn),
            Point(asyn, "AsyncConnectionPool.handle_async_request", slots.handle_async_request, asyn),
        ]


class HttpxInstrumentor(_Httpx):
    """Watches httpx 0.24 and later."""

    library = "httpx"
    requires = "httpx >= 0.24"
    core = "httpcore"


class Httpx2Instrumentor(_Httpx):
    """Watches httpx2, which httpx goes on as."""

    library = "httpx2"
    requires = "httpx2 >= 2"
    core = "httpcore2"

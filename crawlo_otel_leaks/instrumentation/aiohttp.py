"""aiohttp clients: sessions from creation to close, and the connector slots that responses hold."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.model import Handle, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from typing_extensions import Self

    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.tracker import Tracker

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

T = TypeVar("T")
# The request that is being made: a connection belongs to who called session.get(), and to the span
# current there, not to the client span that another instrumentation opens further down.
_origin: ContextVar[Handle | None] = ContextVar("crawlo_leaks_aiohttp_request", default=None)


class _LoopHandle(Handle):
    """A handle for one of aiohttp's objects, which all belong to a loop."""

    __slots__ = ("loop", "ref")
    loop: weakref.ref[Any]
    ref: weakref.ref[Any]

    def of(self, thing: Any) -> Self:
        """Refer to the object, weakly."""
        self.ref = weakref.ref(thing)
        self.loop = weakref.ref(thing._loop)  # noqa: SLF001  (aiohttp has no public name for it)
        return self

    def loop_closed(self) -> bool:
        """Whether the object's loop is closed, or gone."""
        loop = self.loop()
        return loop is None or loop.is_closed()

    def referent(self) -> object | None:
        """Return the object while it lives."""
        return self.ref()


class SessionHandle(_LoopHandle):
    """A ClientSession that is not closed."""

    __slots__ = ("requests",)
    shareable = True

    def of(self, thing: Any) -> Self:
        """Refer to the session, weakly, before its first request."""
        self.requests = 0
        return super().of(thing)

    def progress(self) -> Progress:
        """Tell use by the number of requests."""
        return Progress(self.requests, untouched=self.requests == 0)


class ConnectionHandle(_LoopHandle):
    """A connector slot, held by a response or websocket."""

    __slots__ = ("connector",)
    connector: int
    """Identity of the connector, whose closing gives all its slots back."""

    def progress(self) -> Progress:
        """Tell use by the bytes that came in and those that were read."""
        protocol = self._protocol()
        if protocol is None:
            return Progress(visible=False)
        payload = getattr(protocol, "_payload", None)
        counts = tuple(getattr(payload, name, 0) for name in ("total_bytes", "_size", "_cursor"))
        return Progress((id(payload), *counts), visible=not getattr(protocol, "upgraded", False))

    def busy(self) -> bool:
        """Whether somebody awaits a message, or bytes of a body, right now."""
        protocol = self._protocol()
        websocket = getattr(getattr(protocol, "_payload_parser", None), "queue", None)
        waiting = (protocol, getattr(protocol, "_payload", None), websocket)
        return any(getattr(one, "_waiter", None) is not None for one in waiting)

    def _protocol(self) -> Any:
        return getattr(self.ref(), "_protocol", None)


class _Request(Coroutine[Any, Any, Any]):
    """A request's coroutine that carries where it was asked for; all else is the wrapped one's."""

    __slots__ = ("_inner", "_origin")

    def __init__(self, inner: Coroutine[Any, Any, Any], origin: Handle) -> None:
        self._inner = inner
        self._origin = origin

    def send(self, value: Any) -> Any:
        token = _origin.set(self._origin)
        try:
            return self._inner.send(value)
        finally:
            _origin.reset(token)

    def throw(self, *error: Any) -> Any:
        token = _origin.set(self._origin)
        try:
            return self._inner.throw(*error)
        finally:
            _origin.reset(token)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # it has all of a generator that `await` uses

    def __iter__(self) -> _Request:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Client:
    """What stands in front of aiohttp's methods, and what is open by identity of its object."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._sessions: dict[int, SessionHandle] = {}
        self._connections: dict[int, ConnectionHandle] = {}
        self._slots: dict[int, dict[int, ConnectionHandle]] = {}

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a session, connection or response."""
        thing = getattr(thing, "_connection", None) or getattr(thing, "_conn", None) or thing
        handle = self._sessions.get(id(thing)) or self._connections.get(id(thing))
        return handle if handle is not None and handle.ref() is thing else None

    def opened(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> None:
        """ClientSession.__init__."""
        wrapped(*args, **kwargs)
        self._safely("ClientSession", self._note_session, session, sys._getframe(1))  # noqa: SLF001

    async def closed(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession.close."""
        self._release(self._sessions, session)
        return await wrapped(*args, **kwargs)

    def detached(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession.detach: whoever took the connector has to close it."""
        self._release(self._sessions, session)
        return wrapped(*args, **kwargs)

    def dropped(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession.__del__: collected; without a close, unless its connector was closed for it."""
        handle = self._sessions.pop(id(session), None)
        if handle is not None:
            end = self._tracker.release if session.closed else self._tracker.abandon
            end(handle)
        return wrapped(*args, **kwargs)

    def asked(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession._request: note who asks, before anything is awaited."""
        request = wrapped(*args, **kwargs)
        origin = self._safely("request", self._note_request, session, sys._getframe(1))  # noqa: SLF001
        return request if origin is None else _Request(request, origin)

    async def connect(self, wrapped: Wrapped, connector: Any, args: Arguments, kwargs: Keywords) -> Any:
        """BaseConnector.connect: a slot is taken."""
        connection = await wrapped(*args, **kwargs)
        self._safely("connect", self._note_slot, connector, connection, sys._getframe(0))  # noqa: SLF001
        return connection

    def given_back(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Connection.release and Connection.close."""
        self._end_slot(connection, self._tracker.release)
        return wrapped(*args, **kwargs)

    def connection_dropped(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Connection.__del__: collected, and not released if it still has its protocol."""
        held = connection._protocol is not None  # noqa: SLF001  (as its own __del__ asks)
        self._end_slot(connection, self._tracker.abandon if held else self._tracker.release)
        return wrapped(*args, **kwargs)

    def response_dropped(self, wrapped: Wrapped, response: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientResponse.__del__: collected; it gives a slot that it still holds back without a word."""
        connection = getattr(response, "_connection", None)
        if connection is not None and not response._closed:  # noqa: SLF001  (as its own __del__ asks)
            self._end_slot(connection, self._tracker.abandon)
        return wrapped(*args, **kwargs)

    def connector_closed(self, wrapped: Wrapped, connector: Any, args: Arguments, kwargs: Keywords) -> Any:
        """BaseConnector._close: all its slots are given back with their sockets."""
        for key, handle in self._slots.pop(id(connector), {}).items():
            self._connections.pop(key, None)
            self._tracker.release(handle)
        return wrapped(*args, **kwargs)

    def _release(self, table: dict[int, SessionHandle], thing: object) -> None:
        handle = table.pop(id(thing), None)
        if handle is not None:
            self._tracker.release(handle)

    def _end_slot(self, connection: object, end: Callable[[Handle], None]) -> None:
        handle = self._connections.pop(id(connection), None)
        if handle is not None:
            slots = self._slots.get(handle.connector, {})
            slots.pop(id(connection), None)
            if not slots:
                self._slots.pop(handle.connector, None)
            end(handle)

    def _note_session(self, session: Any, frame: FrameType) -> None:
        handle = SessionHandle(semconv.HTTP_SESSION, type(session).__qualname__).of(session)
        if self._tracker.acquire(handle, frame) is not None:
            self._sessions[id(session)] = handle

    def _note_request(self, session: Any, frame: FrameType) -> Handle | None:
        handle = self._sessions.get(id(session))
        if handle is not None:
            handle.requests += 1
            self._tracker.use(handle)
        return self._tracker.locate(Handle(semconv.HTTP_CONNECTION), frame)

    def _note_slot(self, connector: Any, connection: Any, frame: FrameType) -> None:
        key = connection._key  # noqa: SLF001  (it has no public name)
        name = f"{'https' if key.is_ssl else 'http'}://{key.host}:{key.port}"
        handle = ConnectionHandle(semconv.HTTP_CONNECTION, name).of(connection)
        origin = _origin.get() or self._tracker.locate(Handle(semconv.HTTP_CONNECTION), frame)
        if origin is not None:
            handle.connector = id(connector)
            self._tracker.enter(handle, origin)
            self._connections[id(connection)] = handle
            self._slots.setdefault(id(connector), {})[id(connection)] = handle

    def _safely(self, where: str, step: Callable[..., T], *args: Any) -> T | None:
        """The host has what it asked for; that we cannot watch it is our failure alone."""
        try:
            return step(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self._tracker.fail(f"aiohttp {where}", error)
            return None


class AiohttpInstrumentor(Instrumentor):
    """Watches aiohttp 3.9 and later."""

    library = "aiohttp"
    requires = "aiohttp >= 3.9"
    handles = (SessionHandle, ConnectionHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        client = _Client(running.tracker)
        running.finders.append(client.find)
        sessions, connector = "aiohttp.client", "aiohttp.connector"
        return [
            Point(sessions, "ClientSession.__init__", client.opened),
            Point(sessions, "ClientSession.close", client.closed),
            Point(sessions, "ClientSession.detach", client.detached),
            Point(sessions, "ClientSession.__del__", client.dropped),
            Point(sessions, "ClientSession._request", client.asked),
            Point("aiohttp.client_reqrep", "ClientResponse.__del__", client.response_dropped),
            Point(connector, "BaseConnector.connect", client.connect),
            Point(connector, "BaseConnector._close", client.connector_closed),
            Point(connector, "Connection.release", client.given_back),
            Point(connector, "Connection.close", client.given_back),
            Point(connector, "Connection.__del__", client.connection_dropped),
        ]

"""What stands in front of aiohttp's methods, and what it knows to be open."""

from __future__ import annotations

import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.blame import explain
from crawlo_otel_leaks.instrumentation._aiohttp_handles import ConnectionHandle, LoopHandle, SessionHandle
from crawlo_otel_leaks.instrumentation._origins import Origins
from crawlo_otel_leaks.instrumentation._references import NONE

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.tracker import Tracker

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]
    Way = Callable[[Wrapped, list[bool]], Wrapped]

T = TypeVar("T")
_TUNNEL: Final = "_create_proxy_connection"
"""What asks a proxy for a way through has a Connection object of its own for that, until the way is there."""
_FINALIZER: Final = "__del__"


class Client:
    """What stands in front of aiohttp's methods, and what is open by identity of its object.

    A connection belongs to who called session.get(), and to the span current there, not to the
    client span that another instrumentation opens further down.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._requests: Origins[ConnectionHandle] = Origins(tracker.chores, tracker.stock)
        self._open: dict[int, LoopHandle] = tracker.stock.by_identity()
        self._sessions: dict[int, dict[int, SessionHandle]] = {}
        """By the identity of their connectors, and then by their own."""
        self._swift: Any = None if tracker.accelerator is None else tracker.accelerator.asking(**self._parts())

    def way(self, role: str, python: Way) -> Way:
        """Return what makes the stand for a method that every request goes through: in C, where that is to be had."""
        return python if self._swift is None else functools.partial(self._swift.stand, role)

    def _parts(self) -> dict[str, Any]:
        return {
            "template": _slot(),
            "session_type": SessionHandle,
            "asked": self._requests.by_frame,
            "open": self._open,
            "tunnel": _TUNNEL,
            "use": self._tracker.use,
            "keep_name": self._keep_name,
            "finalizer": _FINALIZER,
            "abandon": self._tracker.abandon,
            "failed": self._failed,
        }

    def _failed(self, where: str, error: BaseException) -> None:
        self._tracker.fail(f"aiohttp {where}", error)

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a session, connection, response or websocket."""
        thing = getattr(thing, "_connection", None) or getattr(thing, "_conn", None) or thing
        handle = self._open.get(id(thing))
        return handle if handle is not None and handle.referent() is thing else None

    def opened(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> None:
        """ClientSession.__init__."""
        wrapped(*args, **kwargs)
        self._safely("ClientSession", self._note_session, session, sys._getframe(1))  # noqa: SLF001

    def closed(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession.close: it ends the session when it is awaited, not when it is called."""
        if args or kwargs:  # which it refuses at once
            return wrapped(*args, **kwargs)
        closing: Any = self._closing(wrapped, session)
        # What asyncio and `never awaited` warnings call it.
        closing.__name__, closing.__qualname__ = wrapped.__name__, wrapped.__qualname__
        return closing

    async def _closing(self, wrapped: Wrapped, session: Any) -> Any:
        self._end_session(session, self._tracker.release)
        return await wrapped()

    def detached(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession.detach: whoever took the connector has to close it."""
        self._end_session(session, self._tracker.release)
        return wrapped(*args, **kwargs)

    def dropped(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession.__del__: collected; not closed, if it still counts as open."""
        self._end_session(session, self._tracker.abandon)
        return wrapped(*args, **kwargs)

    def ask(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """ClientSession._request and _ws_connect, where no function of ours can show itself as a coroutine function."""
        request = wrapped(*args, **kwargs)
        self._safely("request", self._note_request, session, request, sys._getframe(1))  # noqa: SLF001
        return request

    # What each request goes through is a function that stands in the class itself: wrapt's own way costs 2 us.

    def asked(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for both from 3.12 on: note who asks, before anything is awaited."""
        getframe, note = sys._getframe, self._note_request  # noqa: SLF001  (documented)

        def ask(session: Any, *args: Any, **kwargs: Any) -> Any:
            request = original(session, *args, **kwargs)
            if live:
                try:
                    note(session, request, getframe(1))
                except Exception as error:  # noqa: BLE001  (the host has what it asked for)
                    self._failed("request", error)
            return request

        return ask

    def taken(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Connection.__init__: a connector gives somebody a slot."""
        getframe, note = sys._getframe, self._note_slot  # noqa: SLF001  (documented)

        def take(connection: Any, *args: Any, **kwargs: Any) -> None:
            original(connection, *args, **kwargs)
            if live:
                try:
                    note(connection, getframe(1))
                except Exception as error:  # noqa: BLE001  (the host has its connection)
                    self._failed("connection", error)

        return take

    def connect(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """BaseConnector._create_connection: there may be no descriptor left for one more."""

        async def connect(connector: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return await original(connector, *args, **kwargs)
            except Exception as error:
                if live:
                    self._safely("blame", explain, self._tracker, error)
                raise

        return connect

    def upgraded(self, wrapped: Wrapped, websocket: Any, args: Arguments, kwargs: Keywords) -> None:
        """ClientWebSocketResponse.__init__: the slot is a websocket's from now on."""
        wrapped(*args, **kwargs)
        self._safely("websocket", self._note_websocket, websocket)

    def given_back(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Connection.release and Connection.close; a response that is collected calls the former, without a word."""
        opened, release, abandon = self._open, self._tracker.release, self._tracker.abandon
        getframe = sys._getframe  # noqa: SLF001  (documented)

        def give_back(connection: Any) -> Any:
            if live and id(connection) in opened:
                self._end(connection, abandon if getframe(1).f_code.co_name == _FINALIZER else release)
            return original(connection)

        return give_back

    def connection_dropped(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Connection.__del__: collected, and not released if it still has its protocol."""
        opened = self._open

        def drop(connection: Any, **kwargs: Any) -> Any:
            if live and id(connection) in opened:
                held = connection._protocol is not None  # noqa: SLF001  (as its own __del__ asks)
                self._end(connection, self._tracker.abandon if held else self._tracker.release)
            return original(connection, **kwargs)

        return drop

    def connector_closed(self, wrapped: Wrapped, connector: Any, args: Arguments, kwargs: Keywords) -> Any:
        """BaseConnector._close: its slots are given back with their sockets, its sessions are closed too."""
        self._safely("connector", self._end_through, connector)
        return wrapped(*args, **kwargs)

    def _end_through(self, connector: Any) -> None:
        through: list[tuple[int, LoopHandle]] = [*self._sessions.pop(id(connector), {}).items()]
        if getattr(connector, "_acquired", True):  # hardly ever: all slots are looked through for its own
            through += [(key, one) for key, one in list(self._open.items()) if one.goes_through(connector)]
        for key, handle in through:
            self._open.pop(key, None)
            self._keep_name(handle, handle.referent())
            self._tracker.release(handle)

    def _end(self, thing: object, end: Callable[[Handle], None]) -> None:
        handle = self._open.pop(id(thing), None)
        if handle is not None:
            self._keep_name(handle, thing)
            end(handle)

    def _keep_name(self, handle: LoopHandle, thing: object) -> None:
        """Note what a thing is called, which nobody can ask it any more once it is gone."""
        try:
            handle.name = handle.called(thing)
        except Exception as error:  # noqa: BLE001  (its end is told in any case)
            self._failed("name", error)

    def _end_session(self, session: object, end: Callable[[Handle], None]) -> None:
        handle = self._open.get(id(session))
        if isinstance(handle, SessionHandle):
            mates = self._sessions.get(handle.connector)
            if mates is not None:
                mates.pop(id(session), None)
                if not mates:
                    self._sessions.pop(handle.connector, None)
        self._end(session, end)

    def _begin_session(self, session: object, handle: SessionHandle) -> None:
        self._open[id(session)] = handle
        mates = self._sessions.get(handle.connector) or {}
        mates[id(session)] = handle
        self._sessions[handle.connector] = mates  # last: a finalizer may just have taken an empty one away

    def _note_session(self, session: Any, frame: FrameType) -> None:
        handle = SessionHandle(semconv.HTTP_SESSION, type(session).__qualname__).of(session, session.connector)
        if self._tracker.acquire(handle, _caller(session, frame)) is not None:
            self._begin_session(session, handle)

    def _note_request(self, session: Any, request: Any, frame: FrameType) -> None:
        below, requests = frame.f_back, self._requests
        # A websocket's own request, two calls below it, was asked for where the websocket was.
        origin = requests.of(below) if id(below) in requests.by_frame else None
        if origin is None:
            origin = self._locate(frame)
        handle = self._open.get(id(session))
        if type(handle) is SessionHandle:
            handle.requests += 1
            self._tracker.use(handle)
        if origin is not None:
            requests.add(request, origin)

    def _note_slot(self, connection: Any, frame: FrameType) -> None:
        if connection._source_traceback:  # noqa: SLF001  (there in debug mode, our own frame at its end)
            del connection._source_traceback[-1]  # noqa: SLF001
        if frame.f_code.co_name == _TUNNEL:
            return
        origin = self._requests.nearest(frame) or self._locate(frame)
        if origin is None:
            return
        handle = origin
        if origin.ref is not None:  # a redirect's: the first slot of its request has it
            handle = _slot()
            self._tracker.move(handle, origin)
        handle.ref = weakref.ref(connection)
        self._tracker.hold(handle)
        self._open[id(connection)] = handle

    def _locate(self, frame: FrameType) -> ConnectionHandle | None:
        handle = _slot()
        return handle if self._tracker.locate(handle, frame) is not None else None

    def _note_websocket(self, websocket: Any) -> None:
        handle = self.find(websocket)
        if isinstance(handle, ConnectionHandle):
            handle.websocket = weakref.ref(websocket)

    def _safely(self, where: str, step: Callable[..., T], *args: Any) -> T | None:
        """The host has what it asked for; that we cannot watch it is our failure alone."""
        try:
            return step(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self._failed(where, error)
            return None


def _slot() -> ConnectionHandle:
    """Return a handle for a slot that there is not yet."""
    handle = ConnectionHandle(semconv.HTTP_CONNECTION)
    handle.ref, handle.websocket = None, NONE
    return handle


def _caller(session: object, frame: FrameType) -> FrameType:
    """Return the frame that made the session: that of its subclass's own __init__ is not the place to look at."""
    codes = [getattr(vars(kind).get("__init__"), "__code__", None) for kind in type(session).__mro__]
    while frame.f_code in codes and frame.f_back is not None:
        frame = frame.f_back
    return frame

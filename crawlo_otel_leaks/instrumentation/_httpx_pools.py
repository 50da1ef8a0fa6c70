"""httpcore's pools, below httpx: who waits for a connection, who has one, and which were left to nobody."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._httpx_handles import SlotHandle
from crawlo_otel_leaks.instrumentation._origins import Origins
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.instrumentation._waiting import Waiting
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.stock import Ref

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class _Asking(Waiting):
    """A wait that belongs to whoever called the client, whichever task awaits the call."""

    __slots__ = ()
    _watch: Slots

    def begin(self, frame: FrameType | None) -> ConnectionHandle | None:
        """Let the handle that is to be held wait, with where the call was made."""
        origin = self._watch.requests.nearest(frame)
        if origin is None or frame is None:
            return super().begin(frame)
        handle = self._watch.new_handle(frame)
        self._watch.tracker.move(handle, origin)
        return self._watch.wait_for(self._thing, handle)


class _Call:
    """A request that a pool is handling, its note of it, and its waiting for a connection."""

    __slots__ = ("pool", "ticket", "wait")

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.ticket: Any = None
        self.wait: Waiting | None = None


class Slots(PoolWatch):
    """The places that requests and their responses have on connections."""

    kind = semconv.HTTP_CONNECTION
    handle = SlotHandle

    def __init__(self, running: Runtime, package: str) -> None:
        super().__init__(running)
        self.requests: Origins[Handle] = Origins(running.tracker.chores)
        """Where the calls were made that are under way."""
        self._package = package
        self._calls: dict[int, _Call] = {}
        running.tracker.resets.append(self._calls.clear)

    def name(self, pool: Any) -> str:
        """Return the library's name: a pool serves every origin, and has no name of its own."""
        del pool
        return self._package

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes."""
        most, kept = pool._max_connections, pool._max_keepalive_connections  # noqa: SLF001  (it has no public names)
        idle = sum(connection.is_idle() for connection in pool.connections)
        return Limits(most if most < sys.maxsize else None, idle, None, kept if kept < sys.maxsize else None)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether all were out."""
        del pool
        return type(error).__name__ == "PoolTimeout"

    def silent(self) -> frozenset[str]:
        """Return all metrics that are named for databases."""
        return semconv.POOL_METRICS - {semconv.METRIC_POOL_ETA}

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether the pool still has the note of a request whose response was being closed."""
        return connection in pool._requests  # noqa: SLF001  (as above)

    def holding(self, pool: Pool) -> Sequence[Handle]:
        """Return one holder of each connection: by HTTP/2 several requests share one."""
        held = {id(getattr(one.referent(), "connection", None) or one): one for one in reversed(list(pool.held))}
        return list(reversed(held.values()))

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a response."""
        for name in ("stream", "_stream", "_httpcore_stream"):
            thing = getattr(thing, "__dict__", {}).get(name, thing)
        return super().find(_ticket(thing))

    # -- wrappers ---------------------------------------------------------------------------------------

    def handle_request(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's method that takes a request and returns a response."""
        call = self._begin(pool, args, kwargs)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException:
            self.safely("failure", self._failed, call)
            raise
        finally:
            self._calls.pop(_request(args, kwargs), None)
        self.safely("response", self._answered, call, response)
        return response

    async def handle_async_request(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of its coroutine."""
        call = self._begin(pool, args, kwargs)
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException:
            self.safely("failure", self._failed, call)
            raise
        finally:
            self._calls.pop(_request(args, kwargs), None)
        self.safely("response", self._answered, call, response)
        return response

    def wait(self, wrapped: Wrapped, ticket: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a request's waiting for a connection."""
        call = self._calls.get(id(ticket.request))
        if call is None or call.ticket is not None:  # one that it was assigned was not available: it waits again
            return wrapped(*args, **kwargs)
        with Waiting(self, call.pool, sys._getframe(1)) as wait:  # noqa: SLF001
            call.ticket, call.wait = ticket, wait
            connection = wrapped(*args, **kwargs)
            wait.got(ticket)
        return connection

    async def wait_async(self, wrapped: Wrapped, ticket: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of its coroutine."""
        call = self._calls.get(id(ticket.request))
        if call is None or call.ticket is not None:
            return await wrapped(*args, **kwargs)
        with _Asking(self, call.pool, sys._getframe(1)) as wait:  # noqa: SLF001
            call.ticket, call.wait = ticket, wait
            connection = await wrapped(*args, **kwargs)
            wait.got(ticket)
        return connection

    def close_stream(self, wrapped: Wrapped, stream: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the method that closes a response."""
        ticket = _ticket(stream)
        handle = self._handles.pop(id(ticket), None)
        try:
            return wrapped(*args, **kwargs)
        finally:
            if handle is not None:
                self.safely("close", self._closed, stream._pool, ticket, handle)  # noqa: SLF001  (as above)

    async def close_async_stream(self, wrapped: Wrapped, stream: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of its coroutine; cancelled, it may leave the request in the pool."""
        ticket = _ticket(stream)
        handle = self._handles.pop(id(ticket), None)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            if handle is not None:
                self.safely("close", self._closed, stream._pool, ticket, handle)  # noqa: SLF001  (as above)

    async def terminate_async(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's coroutine that closes what is out, too."""
        self.safely("terminate", self._terminated, pool)
        return await wrapped(*args, **kwargs)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def enter(self, pool: Pool, connection: Any, handle: ConnectionHandle) -> None:
        """Hold the place that a request got."""
        super().enter(pool, connection, handle)
        url = connection.request.url
        scheme, host = url.scheme.decode("ascii"), url.host.decode("ascii")
        if isinstance(handle, SlotHandle):
            handle.name = f"{scheme}://{host}:{url.port or _PORTS.get(scheme, '')}"
            handle.bind()

    def look_for(self, handle: SlotHandle) -> None:
        """Release what was left to nobody once its pool is rid of it, or has another use for it."""
        pool, connection = (ref() if ref else None for ref in (handle.home, handle.lost))
        if pool is None or connection is None or not _left_to_nobody(pool, connection):
            self._end(handle)

    def _begin(self, pool: Any, args: Arguments, kwargs: Keywords) -> _Call:
        call = self._calls[_request(args, kwargs)] = _Call(pool)
        return call

    def _answered(self, call: _Call, response: Any) -> None:
        handle = self._handles.get(id(call.ticket))
        if isinstance(handle, SlotHandle):
            if _ticket(response.stream) is not call.ticket:
                self.gave_back(call.ticket)
                message = "a response's stream tells no end"
                raise TypeError(message)
            handle.stream = ref = self.tracker.stock.ref(response.stream, self._stream_dropped)
            ref.key = id(call.ticket)

    def _failed(self, call: _Call) -> None:
        """A request that failed has given its place back; cut off while it waited, it may have got one all the same."""
        wait, ticket = call.wait, call.ticket
        if wait is None or wait.handle is None:
            return
        if id(ticket) not in self._handles and ticket.connection is not None:
            self.enter(wait.handle.pool, ticket, wait.handle)
        handle = self._handles.pop(id(ticket), None)
        if handle is not None:
            self._leave(call.pool, ticket, handle)

    def _closed(self, pool: Any, ticket: Any, handle: ConnectionHandle) -> None:
        if self.out(pool, ticket):
            self._handles[id(ticket)] = handle
        else:
            self._leave(pool, ticket, handle)

    def _leave(self, pool: Any, ticket: Any, handle: ConnectionHandle) -> None:
        """Release a place, unless whoever had it was cut off and left the connection to nobody."""
        connection = ticket.connection
        if isinstance(handle, SlotHandle) and connection is not None and _left_to_nobody(pool, connection):
            handle.connection = None
            handle.home, handle.lost = weakref.ref(pool), weakref.ref(connection)
        else:
            self._end(handle)

    def _stream_dropped(self, ref: Ref) -> None:
        handle = self._handles.get(ref.key)
        if isinstance(handle, SlotHandle) and handle.stream is ref:
            del self._handles[ref.key]
            self.tracker.abandon(handle)  # its pool stays charged

    def _terminated(self, thing: Any) -> None:
        known = self.pools.known(thing)
        for handle in list(known.held) if known else ():
            if isinstance(handle, SlotHandle):
                self._handles.pop(id(handle.referent()), None)
                self._end(handle)


def _request(args: Arguments, kwargs: Keywords) -> int:
    return id(args[0] if args else kwargs.get("request"))


def _ticket(stream: Any) -> Any:
    """Return the pool's note of a request, out of its response's stream; the name changed within the 1.0 line."""
    known = getattr(stream, "__dict__", {})
    return known.get("_pool_request") or known.get("_status")


def _left_to_nobody(pool: Any, connection: Any) -> bool:
    """Whether the pool counts a connection for ever: not closed, not idle, never ready, and no request has it.

    httpcore up to 1.0.9 leaves one so when a request is cancelled before its connection is made, or again while it
    is being closed.
    """
    usable = connection.is_closed() or connection.is_idle() or connection.is_available()
    waited_for = any(one.connection is connection for one in list(pool._requests))  # noqa: SLF001  (as above)
    return connection in pool.connections and not usable and not waited_for

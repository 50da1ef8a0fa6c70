"""urllib3: connections out of its pools, also those that requests and other libraries take, and pool managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import _traffic
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._http_sessions import SessionHandle, Sessions
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.model import Progress
from crawlo_otel_leaks.owner import this_thread
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_ON_TOP: Final = ("requests", "botocore", "boto3", "s3transfer")
"""Libraries that ask it on behalf of their callers, whose the connections are."""
_PORTS: Final = {"http": 80, "https": 443}


class SlotHandle(ConnectionHandle):
    """A connection out of its pool, held by a response that is neither read to its end nor closed."""

    __slots__ = ()
    watch: Slots

    def progress(self) -> Progress:
        """Tell use by what came in and was read; what a pool lost that is gone itself is lost no more."""
        if self.referent() is None and not _blocks(self.pool):
            self.watch.ended(self)
            return Progress(visible=False)
        return super().progress()


class ManagerHandle(SessionHandle):
    """A PoolManager that was not cleared."""

    __slots__ = ()
    cut_off = True

    def idle(self, session: Any) -> Iterable[Any]:
        """Yield the sockets of the connections that its pools keep."""
        return idle(session)


class Managers(Sessions):
    """Pool managers; those of a session of requests are the session's."""

    silent = Sessions.silent | {"requests"}


class Slots(PoolWatch):
    """Connections out of pools.

    A pool that does not block makes a new one instead of one that is lost: there, closing a response is as
    good as giving its connection back. A pool that blocks has one less for ever.
    """

    kind = semconv.HTTP_CONNECTION
    handle = SlotHandle

    def name(self, pool: Any) -> str:
        """Return the origin."""
        return f"{pool.scheme}://{pool.host}:{pool.port or _PORTS.get(pool.scheme, '')}"

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes; one that is closed, or does not block, has no limit."""
        queue = pool.pool
        if queue is None:
            return Limits()
        return Limits(queue.maxsize if pool.block else None, len(list(_kept(pool))), None, queue.maxsize)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether all were out."""
        del pool
        return type(error).__name__ == "EmptyPoolError"

    def silent(self) -> frozenset[str]:
        """Return all metrics that are named for databases."""
        return semconv.POOL_METRICS - {semconv.METRIC_POOL_ETA}

    def used(self, connection: Any) -> object:
        """Return what came in, and what is left of the body, where the connection still has its socket."""
        received = _traffic.received(connection.sock)
        response = getattr(connection, "_HTTPConnection__response", None)
        left = tuple(getattr(response, name, None) for name in ("length", "chunk_left"))
        return None if received is None else (received, left)

    def socket(self, connection: Any) -> Any:
        """Return the socket; what closes itself after this response has given it away."""
        return connection.sock

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a connection, of its response, or of that of requests."""
        raw = getattr(thing, "__dict__", {}).get("raw", thing)
        return super().find(getattr(raw, "__dict__", {}).get("_connection") or raw)

    # -- wrappers ---------------------------------------------------------------------------------------

    def put(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's `_put_conn`, which is given None in the place of one that failed."""
        connection = args[0] if args else kwargs.get("conn")
        if connection is None:
            self.safely("replace", self._replaced, pool)
        else:
            self.gave_back(connection)
        return wrapped(*args, **kwargs)

    def response_closed(self, wrapped: Wrapped, response: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a response's `close`, which its finalizer calls too."""
        self.safely("close", self._response_closed, response)
        return wrapped(*args, **kwargs)

    def pool_closed(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's `close`: of what it lost nobody can run short any more."""
        self.safely("close of a pool", self._pool_closed, pool)
        return wrapped(*args, **kwargs)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def ended(self, handle: ConnectionHandle) -> None:
        """Record that nothing is held any more."""
        self._end(handle)

    def _response_closed(self, response: Any) -> None:
        connection = getattr(response, "_connection", None)
        handle = None if connection is None else self._handles.get(id(connection))
        if handle is None:
            return
        blocks = _blocks(handle.pool)
        if vars(response).get("_finalizing"):  # which io sets on one that is dropped open
            del self._handles[id(connection)]
            self.tracker.abandon(handle)
        elif not blocks:
            self.gave_back(connection)
        if not blocks:
            handle.pool.held.pop(handle, None)

    def _replaced(self, pool: Any) -> None:
        """A request failed: of what this thread has out of the pool it is the newest that has no socket any more."""
        known = self.pools.known(pool)
        for handle in reversed(list(known.held)) if known else ():
            connection: Any = handle.referent()
            mine = handle.thread is this_thread.owner and handle.released_at is None
            if mine and isinstance(handle, SlotHandle) and getattr(connection, "sock", None) is None:
                self._handles.pop(id(connection), None)
                self._end(handle)
                return

    def _pool_closed(self, pool: Any) -> None:
        known = self.pools.known(pool)
        for handle in list(known.held) if known else ():
            if isinstance(handle, SlotHandle) and getattr(handle.referent(), "sock", None) is None:
                self._end(handle)

    def _collected(self, key: int, handle: ConnectionHandle) -> None:
        """A connection that nobody has any more was closed, or its request failed: its response would have told."""
        if self._handles.get(key) is handle:
            del self._handles[key]
        if not _blocks(handle.pool):
            self._end(handle)


def _blocks(pool: Pool) -> bool:
    """Whether a pool that is still there makes no new connection in the place of one that is lost."""
    limits = pool.read()
    return limits is not None and limits.max is not None


def _kept(pool: Any) -> Iterator[Any]:
    """Yield the connections that idle in a pool."""
    queue = getattr(pool, "pool", None)
    return (one for one in list(getattr(queue, "queue", ())) if one is not None)


def idle(manager: Any) -> Iterable[Any]:
    """Return the sockets of the connections that a pool manager keeps."""
    pools = getattr(getattr(manager, "pools", None), "_container", {})
    try:
        return [connection.sock for pool in list(pools.values()) for connection in _kept(pool)]
    except RuntimeError:  # another thread just made a pool
        return ()


class Urllib3Instrumentor(Instrumentor):
    """Watches urllib3 1.26 and later."""

    library = "urllib3"
    requires = "urllib3 >= 1.26"
    handles = (SlotHandle, ManagerHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        for name in _ON_TOP:
            running.tracker.sites.hide(name)
        slots, managers = Slots(running), Managers(running, self.library, ManagerHandle)
        pools, manager = "urllib3.connectionpool", "urllib3.poolmanager"
        return [
            Point("urllib3.response", "HTTPResponse.close", slots.response_closed),
            Point(pools, "HTTPConnectionPool.close", slots.pool_closed, semconv.HTTP_CONNECTION),
            Point(pools, "HTTPConnectionPool._put_conn", slots.put, semconv.HTTP_CONNECTION),
            Point(pools, "HTTPConnectionPool._get_conn", slots.acquire, semconv.HTTP_CONNECTION),
            Point(manager, "PoolManager.clear", managers.closed, semconv.HTTP_SESSION),
            Point(manager, "PoolManager.urlopen", managers.used),
            Point(manager, "PoolManager.__init__", managers.opened, semconv.HTTP_SESSION),
        ]

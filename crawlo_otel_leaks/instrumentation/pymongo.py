"""PyMongo, its asyncio client, and motor on top: connections out of a client's pools."""

from __future__ import annotations

import sys
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

# PyMongo publishes events of its pools, but they are not enough here. They name a pool by its server alone, and a
# connection by a number that another client's connection to the server has too; a listener for each client would
# have to be slipped into the options that the client shows. A checkout that is cancelled while it waits ends
# without any event, and one that fails has not raised yet, so that its exception cannot be told who holds what.
# The methods that publish those events see all of it; they were renamed once since 4.0.
PACKAGES: Final = ("pymongo", "gridfs", "motor")
_FULL: Final = "Timed out while checking out a connection"
_MANAGERS: Final = ("_sock_mgr", "_Cursor__sock_mgr", "_CommandCursor__sock_mgr", "conn_mgr", "sock_mgr")
"""What keeps a connection for a cursor or a transaction, in all releases."""
_asker: ContextVar[Handle | None] = ContextVar("crawlo_leaks_asker", default=None)
"""In motor's helper threads: the task that asked, and its line."""


class MongoHandle(ConnectionHandle):
    """A connection that an operation, a cursor or a transaction keeps; it counts what it was asked."""

    __slots__ = ("at_work", "uses")
    at_work: bool
    uses: int


class MongoWatch(PoolWatch):
    """Pools of a client, one for each server."""

    kind = semconv.DB_CONNECTION
    handle = MongoHandle
    _handles: dict[int, Any]

    def name(self, pool: Any) -> str:
        """Return `server:port`, or the socket's path."""
        host, port = pool.address
        return str(host) if port is None else f"{host}:{port}"

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes; one without limit has an infinite one."""
        most = pool.max_pool_size if pool.max_pool_size < 2**31 else None
        idle = pool.conns if hasattr(pool, "conns") else pool.sockets
        return Limits(most, len(idle), pool.opts.min_pool_size, most)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether the pool had none left in time; the text tells in all releases."""
        del pool
        return str(error).startswith(_FULL)

    def working(self, connection: Any) -> bool:
        """Whether somebody awaits an answer on it."""
        handle = self._handles.get(id(connection))
        return handle is not None and handle.at_work

    def used(self, connection: Any) -> object:
        """Return how often an answer was awaited."""
        handle = self._handles.get(id(connection))
        return None if handle is None else handle.uses

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether it is neither idle nor closed, after a release that did not come through."""
        return not connection.closed and connection not in pool.conns

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a connection, or of what a cursor or a session keeps."""
        if type(thing).__module__.startswith(PACKAGES):
            thing = _kept(_field(thing, "delegate") or thing)
        return super().find(thing)

    def enter(self, pool: Pool, connection: Any, handle: Any) -> None:
        """Hold a connection, of which nothing was asked yet."""
        handle.uses, handle.at_work = 0, False
        super().enter(pool, connection, handle)

    # -- wrappers ---------------------------------------------------------------------------------------

    def acquire(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the method that takes a connection out."""
        if _of_monitor(pool):
            return wrapped(*args, **kwargs)
        return super().acquire(wrapped, pool, args, kwargs)

    async def acquire_async(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the coroutine that takes a connection out."""
        if _of_monitor(pool):
            return await wrapped(*args, **kwargs)
        return await super().acquire_async(wrapped, pool, args, kwargs)

    def _created(self, thing: Any, began: float) -> None:
        if not _of_monitor(thing):
            super()._created(thing, began)

    def receive(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the methods that wait for an answer."""
        handle = self._begin(connection)
        try:
            return wrapped(*args, **kwargs)
        finally:
            if handle is not None:
                handle.at_work = False

    async def receive_async(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the coroutines that wait for an answer."""
        handle = self._begin(connection)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            if handle is not None:
                handle.at_work = False

    def lend(self, wrapped: Wrapped, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of motor's function that runs an operation in a helper thread, in a copy of the context."""
        del instance
        context = copy_context()
        context.run(_asker.set, self.ask(sys._getframe(1)))  # noqa: SLF001
        return context.run(wrapped, *args, **kwargs)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def begin(self, thing: Any, frame: FrameType) -> ConnectionHandle | None:
        """Begin to wait for a connection, by whoever asked motor for it."""
        asker = _asker.get()
        if asker is None:
            return super().begin(thing, frame)
        handle = MongoHandle(self.kind)
        self.tracker.move(handle, asker)
        return self.wait_for(thing, handle)

    def _begin(self, connection: Any) -> Any:
        handle = self._handles.get(id(connection))
        if handle is not None:
            handle.uses, handle.at_work = handle.uses + 1, True
            if _asker.get() is None:  # a helper thread is nobody who could share it
                self.safely("use", self.tracker.use, handle)
        return handle

    def points(self) -> list[Point]:
        """Return the table."""
        new, asyn, old = "pymongo.synchronous.pool", "pymongo.asynchronous.pool", "pymongo.pool"
        return [
            Point(new, "Pool.checkin", self.release, "4.9"),
            Point(new, "Connection.receive_message", self.receive, "4.9"),
            Point(new, "Connection.command", self.receive, "4.9"),
            Point(new, "Pool._get_conn", self.acquire, "4.9"),
            Point(new, "Pool.connect", self.create, "4.9"),
            Point(asyn, "Pool.checkin", self.release_async, "asyncio"),
            Point(asyn, "AsyncConnection.receive_message", self.receive_async, "asyncio"),
            Point(asyn, "AsyncConnection.command", self.receive_async, "asyncio"),
            Point(asyn, "Pool._get_conn", self.acquire_async, "asyncio"),
            Point(asyn, "Pool.connect", self.create_async, "asyncio"),
            # Up to 4.8; later it shows the names of the new one, whose methods are wrapped already.
            Point(old, "Pool.checkin", self.release, "4.5", optional=True),
            Point(old, "Connection.receive_message", self.receive, "4.5", optional=True),
            Point(old, "Connection.command", self.receive, "4.5", optional=True),
            Point(old, "Pool._get_conn", self.acquire, "4.5", optional=True),
            # Up to 4.4.
            Point(old, "Pool.return_socket", self.release, "4.0", optional=True),
            Point(old, "SocketInfo.receive_message", self.receive, "4.0", optional=True),
            Point(old, "SocketInfo.command", self.receive, "4.0", optional=True),
            Point(old, "Pool._get_socket", self.acquire, "4.0", optional=True),
            Point(old, "Pool.connect", self.create, optional=True),
            Point("motor.frameworks.asyncio", "run_on_executor", self.lend),
            Point("motor.frameworks.tornado", "run_on_executor", self.lend),
        ]


def _of_monitor(pool: Any) -> bool:
    """Whether it is a pool of those that only watch the servers: it has one connection, out for good."""
    return bool(pool.is_sdam) if hasattr(pool, "is_sdam") else not pool.handshake


def _kept(thing: Any) -> Any:
    """Return the connection that a cursor or a session keeps, else the thing itself."""
    keeper = _field(thing, "_transaction") or thing
    manager = next((found for name in _MANAGERS if (found := _field(keeper, name)) is not None), None)
    return thing if manager is None else _field(manager, "conn") or _field(manager, "sock") or thing


def _field(thing: Any, name: str) -> Any:
    """Return what an object itself has by a name; clients and collections answer to any with a collection."""
    return getattr(thing, "__dict__", {}).get(name)


class PyMongoInstrumentor(Instrumentor):
    """Watches PyMongo 4 and later, and motor through it."""

    library = "pymongo"
    requires = "pymongo >= 4"
    handles = (MongoHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        for package in PACKAGES:
            running.tracker.sites.hide(package)
        return MongoWatch(running).points()

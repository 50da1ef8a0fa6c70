"""What the MySQL drivers have in common: names, refusals, use; and aiomysql's pool, which asyncmy took over."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._asked import Asked, awaited
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._connections import ConnectWatch, OpenHandle, kept_by_another
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.instrumentation._wrapping import Point
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

REFUSALS: Final = (1040, 1203, 1226)
"""Error numbers of a server that allows no more connections: at all, to a user, to an account."""
_filling: ContextVar[Any] = ContextVar("crawlo_leaks_filling", default=None)
"""The pool that is opening connections for itself. Compiled code has no frames to tell it by."""


def place(settings: Mapping[str, Any]) -> str:
    """Return `server:port/namespace` of what a connect is told, or the file that names them; never a secret."""
    host, port = settings.get("host") or "localhost", settings.get("port") or 3306
    file = settings.get("read_default_file") if host == "localhost" else None
    server = settings.get("unix_socket") or file or f"{host}:{port}"
    namespace = settings.get("db") or settings.get("database")
    return f"{server}/{namespace}" if namespace else str(server)


class MySQLPooled(ConnectionHandle):
    """A connection out of a pool that counts its commands."""

    __slots__ = ("uses",)
    uses: int


class MySQLOpen(OpenHandle):
    """A connection of the program's own that counts its commands."""

    __slots__ = ("at_work", "uses")
    at_work: bool
    uses: int


class MySQLWatch(PoolWatch):
    """What is true of every MySQL connection."""

    kind = semconv.DB_CONNECTION
    _handles: dict[int, Any]

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether the server allows no more connections."""
        del pool
        return type(error).__name__ == "OperationalError" and error.args[:1] in [(code,) for code in REFUSALS]

    def working(self, connection: Any) -> bool:
        """Whether a task awaits an answer on it."""
        reader, protocol = getattr(connection, "_reader", None), getattr(connection, "_proto", None)
        return (getattr(reader, "_waiter", None) or getattr(protocol, "_read_waiter", None)) is not None

    def used(self, connection: Any) -> object:
        """Return how many commands it got, and the number of the last packet while it is being read."""
        handle = self._handles.get(id(connection))
        return None if handle is None else (handle.uses, getattr(connection, "_next_seq_id", None))

    def enter(self, pool: Pool, connection: Any, handle: Any) -> None:
        """Hold a connection; one that is opened again was closed before."""
        self.gave_back(connection)
        handle.uses = 0
        super().enter(pool, connection, handle)

    def command(self, connection: Any) -> None:
        """Count a command."""
        handle = self._handles.get(id(connection))
        if handle is not None:
            handle.uses += 1
            self.tracker.use(handle)


class AsyncPools(MySQLWatch):
    """Pools of aiomysql's shape."""

    handle = MySQLPooled

    def name(self, pool: Any) -> str:
        """Return `server:port/namespace`."""
        return place(pool._conn_kwargs)  # noqa: SLF001  (nothing public has it)

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes; aiomysql writes an unlimited one as 0."""
        return Limits(pool.maxsize or None, pool.freesize, pool.minsize, pool.maxsize or None)

    def acquire(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the method that returns a coroutine for a connection."""
        wait = Asked(self, pool, self.ask(sys._getframe(1)))  # noqa: SLF001
        return awaited(wrapped, wait, args, kwargs)

    async def fill(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the coroutine that opens connections for the pool."""
        _filling.set(pool)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            _filling.set(None)  # not by a token, which a coroutine that is closed elsewhere may not use


class AsyncConnects(MySQLWatch, ConnectWatch):
    """Connections of aiomysql's shape."""

    handle = MySQLOpen

    def __init__(self, running: Runtime, pools: AsyncPools) -> None:
        super().__init__(running)
        self._of_pools = pools

    def target(self, args: Arguments, kwargs: Keywords) -> str:
        """Return `server:port/namespace`."""
        del args
        return place(kwargs)

    def closed(self, connection: Any) -> bool:
        """Whether it is closed, as aiomysql or asyncmy says it."""
        return bool(connection.closed if hasattr(connection, "closed") else not connection.connected)

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether it is still open, after a close that did not come through."""
        del pool
        return not self.closed(connection)

    def connect(self, wrapped: Wrapped, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the function that returns a coroutine for an open connection."""
        del instance
        frame, pool = sys._getframe(1), _filling.get()  # noqa: SLF001
        if pool is not None:
            return self._of_pools.create_async(wrapped, pool, args, kwargs)
        if kept_by_another(frame):
            return wrapped(*args, **kwargs)
        return awaited(wrapped, Asked(self, (args, kwargs), self.ask(frame)), args, kwargs)

    async def ensure_closed(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the coroutine that closes; cancelled, it may leave it open."""
        del args, kwargs
        return await self.release_async(lambda _: wrapped(), None, (connection,), {})

    def use(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of what sends a command on any connection."""
        for watch in (self._of_pools, self):
            watch.safely("use", watch.command, connection)
        return wrapped(*args, **kwargs)


def points(running: Runtime, pools: AsyncPools, package: str, fill: str) -> list[Point]:
    """Return the table for a package of aiomysql's shape; `fill` is the pool's method that opens connections."""
    bare = AsyncConnects(running, pools)
    pool, connection = f"{package}.pool", f"{package}.connection"
    return [
        Point(pool, "Pool.release", pools.release, "pool"),
        Point(pool, "Pool.terminate", pools.terminate, "pool"),
        Point(pool, f"Pool.{fill}", pools.fill, "pool"),
        Point(pool, "Pool._acquire", pools.acquire, "pool"),
        Point(connection, "Connection.__del__", bare.drop, optional=True),
        Point(connection, "Connection.close", bare.close, "connection"),
        Point(connection, "Connection.ensure_closed", bare.ensure_closed, "connection"),
        Point(connection, "Connection._execute_command", bare.use, "connection"),
        Point(connection, "_connect", bare.connect, "connection"),
    ]

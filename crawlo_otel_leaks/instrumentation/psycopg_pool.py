"""psycopg_pool: connections out of its pools, which count one that is dropped as out for ever; sync and asyncio."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.instrumentation._asked import Asked, awaited
from crawlo_otel_leaks.instrumentation._postgres import PooledHandle, PostgresWatch, target
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_NUMBERED: Final = re.compile(r"pool-\d+")
"""A name that the library gave, because the program did not."""


class Pooled(PooledHandle):
    """A connection out of a pool of psycopg_pool's."""

    __slots__ = ()


class PsycopgPools(PostgresWatch):
    """Pools."""

    handle = Pooled

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self.quicken("ask", "begin", "wait_for", "got", "gave_back", "_end", "note_use")

    def name(self, pool: Any) -> str:
        """Return the program's own name, else `host:port/database` where that is not for a function to say."""
        if not _NUMBERED.fullmatch(pool.name) or callable(pool.conninfo) or callable(pool.kwargs):
            return str(pool.name)
        return target(pool.conninfo, pool.kwargs or {})

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes; a null pool keeps none idle, and may be unlimited."""
        stats = pool.get_stats()
        kept = 0 if "Null" in type(pool).__name__ else stats["pool_max"]
        return Limits(stats["pool_max"] or None, stats["pool_available"], stats["pool_min"], kept)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether all were out; it times out on a server that cannot be reached, too."""
        kind = type(error).__name__
        return kind == "TooManyRequests" or (
            kind == "PoolTimeout" and 0 < pool.max_size <= len(self.pool_of(pool).held)
        )

    def working(self, connection: Any) -> bool:
        """Whether an operation has the connection's lock."""
        return bool(connection.lock.locked())

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether the pool still counts a connection as out, after a release that was cancelled."""
        return getattr(connection, "_pool", None) is pool

    def getconn_later(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that returns a coroutine for a connection."""
        wait = Asked(self, pool, self.ask(sys._getframe(1)))  # noqa: SLF001
        return awaited(wrapped, wait, args, kwargs)

    def putconn(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a release; of what is another pool's, or is not out, there is none."""
        return (self.release if self._is_out(pool, args, kwargs) else _pass)(wrapped, pool, args, kwargs)

    def putconn_later(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a coroutine that releases."""
        return (self.release_async if self._is_out(pool, args, kwargs) else _pass)(wrapped, pool, args, kwargs)

    def _is_out(self, pool: Any, args: Arguments, kwargs: Keywords) -> bool:
        return self.out(pool, args[0] if args else kwargs.get("conn"))


class PsycopgPoolInstrumentor(Instrumentor):
    """Watches psycopg_pool 3.1 and later."""

    library = "psycopg_pool"
    requires = "psycopg-pool >= 3.1"
    handles = (Pooled,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        running.tracker.sites.hide("psycopg")
        watch = PsycopgPools(running)
        sync, asyn = "psycopg_pool.pool", "psycopg_pool.pool_async"
        return [
            Point(sync, "ConnectionPool.putconn", watch.putconn, "sync"),
            Point(sync, "ConnectionPool.getconn", watch.acquire, "sync"),
            Point(sync, "ConnectionPool._connect", watch.create, "sync"),
            Point("psycopg.connection", "Connection.wait", watch.use),
            Point(asyn, "AsyncConnectionPool.putconn", watch.putconn_later, "asyncio"),
            Point(asyn, "AsyncConnectionPool.getconn", watch.getconn_later, "asyncio"),
            Point(asyn, "AsyncConnectionPool._connect", watch.create_async, "asyncio"),
            Point("psycopg.connection_async", "AsyncConnection.wait", watch.use),
        ]


def _pass(wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
    del pool
    return wrapped(*args, **kwargs)

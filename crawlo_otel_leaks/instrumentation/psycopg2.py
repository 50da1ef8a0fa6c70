# ruff: noqa: SLF001  (nothing public says what the pools have)
"""psycopg2: connections out of its pools, and those that a program opens itself."""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.instrumentation._connections import kept_by_another
from crawlo_otel_leaks.instrumentation._postgres import (
    OpenedHandle,
    PooledHandle,
    PostgresConnections,
    PostgresWatch,
    is_crowded,
    target,
)
from crawlo_otel_leaks.instrumentation._waiting import Waiting
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_POOLS: Final = ("SimpleConnectionPool", "ThreadedConnectionPool")


class Pooled(PooledHandle):
    """A connection out of a pool of psycopg2's."""

    __slots__ = ()


class Opened(OpenedHandle):
    """A connection of psycopg2's that the program opened itself."""

    __slots__ = ()

    def let_go(self) -> object:
        """Take the program's own connection its `close` back."""
        return getattr(self.referent(), "__dict__", {}).pop("close", None)


class Psycopg2Pools(PostgresWatch):
    """Pools. They keep what is out, so that a dropped connection is never collected."""

    handle = Pooled

    def name(self, pool: Any) -> str:
        """Return `host:port/database`."""
        settings = pool._kwargs
        return target(next(iter(pool._args), settings.get("dsn")), settings)

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes; what is given back beyond its least size it closes."""
        return Limits(max=pool.maxconn, idle=len(pool._pool), idle_max=pool.minconn)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether all were out, or the server has no more."""
        del pool
        return (type(error).__name__, str(error)) == ("PoolError", "connection pool exhausted") or is_crowded(error)

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether the pool counts a connection as out."""
        return id(connection) in pool._rused

    def enter(self, pool: Pool, connection: Any, handle: Any) -> None:
        """Hold a connection; whoever asks by the same key again gets the same, to be given back once."""
        if self.find(connection) is None:
            super().enter(pool, connection, handle)

    def putconn(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a release; one that fails may leave the connection out for ever."""
        connection = args[0] if args else kwargs.get("conn")
        handle = self._handles.pop(id(connection), None) if self.out(pool, connection) else None
        try:
            return wrapped(*args, **kwargs)
        except BaseException:
            if handle is not None and self.out(pool, connection):
                self._handles[id(connection)], handle = handle, None
            raise
        finally:
            if handle is not None:
                self._end(handle)


class Psycopg2Connections(PostgresConnections):
    """Connections that the program opened itself. They are C objects, so it takes a class to see them closed."""

    handle = Opened

    def __init__(self, running: Runtime, pools: Psycopg2Pools) -> None:
        super().__init__(running)
        self._pools = pools

    def closed(self, connection: Any) -> bool:
        """Whether it is closed, by whichever side."""
        return bool(connection.closed)

    def open(self, wrapped: Wrapped, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of what `connect` calls. The program's own factory is used as it is."""
        del instance
        frame = sys._getframe(1)
        own = kwargs.get("connection_factory") is None
        if own:
            kwargs = {**kwargs, "connection_factory": self._kind}
        if kept_by_another(frame):
            return wrapped(*args, **kwargs)
        with Waiting(self, (args, {}), frame) as wait:
            connection = wrapped(*args, **kwargs)
            if own or self._told_of_close(connection):
                wait.got(connection)
        return connection

    @functools.cached_property
    def _kind(self) -> type:
        """Return psycopg2's class of connections, as far as anybody can see, which tells of use and end."""
        watch, base = self, importlib.import_module("psycopg2.extensions").connection

        class Watched(base):  # type: ignore[misc,valid-type]  # it is not known before psycopg2 is imported
            __slots__ = ()

            def __del__(self) -> None:
                watch.left(self)

            @functools.wraps(base.close)
            def close(self) -> None:
                watch.gave_back(self)
                base.close(self)

            @functools.wraps(base.cursor)
            def cursor(self, *args: Any, **kwargs: Any) -> Any:
                watch.note_use(self)
                return base.cursor(self, *args, **kwargs)

        Watched.__name__, Watched.__qualname__, Watched.__module__ = base.__name__, base.__qualname__, base.__module__
        Watched.__doc__ = base.__doc__
        return Watched

    def note_use(self, connection: Any) -> bool:
        """Count a use, of a pool's connection too."""
        return super().note_use(connection) or self._pools.note_use(connection)

    def _told_of_close(self, connection: Any) -> bool:
        """Put a `close` of ours before that of the program's own class, on the connection alone."""
        ref = weakref.ref(connection)

        @functools.wraps(connection.close)
        def close(*args: Any, **kwargs: Any) -> Any:
            alive: Any = ref()
            self.gave_back(alive)
            return type(alive).close(alive, *args, **kwargs)

        try:
            connection.close = close
        except AttributeError:  # its class has slots; without its end its beginning is not watched either
            return False
        return True


class Psycopg2Instrumentor(Instrumentor):
    """Watches psycopg2 2.9 and later, by either of its names."""

    library = "psycopg2"
    requires = "psycopg2 >= 2.9 | psycopg2-binary >= 2.9"
    handles = (Pooled, Opened)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        pools = Psycopg2Pools(running)
        opened = Psycopg2Connections(running, pools)
        return [
            *(Point("psycopg2.pool", f"{kind}.closeall", pools.terminate, "pool") for kind in _POOLS),
            *(Point("psycopg2.pool", f"{kind}.putconn", pools.putconn, "pool") for kind in _POOLS),
            *(Point("psycopg2.pool", f"{kind}.getconn", pools.acquire, "pool") for kind in _POOLS),
            Point("psycopg2.pool", "AbstractConnectionPool._connect", pools.create, "pool"),
            # Not `connect`, which contrib wraps and unwraps.
            Point("psycopg2", "_connect", opened.open),
        ]

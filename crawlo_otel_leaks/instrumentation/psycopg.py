"""psycopg 3: connections that a program opens itself, sync and asyncio."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._asked import Asked
from crawlo_otel_leaks.instrumentation._connections import kept_by_another
from crawlo_otel_leaks.instrumentation._postgres import OpenedHandle, PostgresConnections
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_BAD = 1
"""libpq's CONNECTION_BAD."""


class Opened(OpenedHandle):
    """A connection of psycopg's."""

    __slots__ = ()


class PsycopgConnections(PostgresConnections):
    """Connections that the program opened itself."""

    handle = Opened

    def working(self, connection: Any) -> bool:
        """Whether an operation has the connection's lock."""
        return bool(connection.lock.locked())

    def closed(self, connection: Any) -> bool:
        """Whether it is closed, by whichever side."""
        return is_closed(connection)

    def over(self, connection: Any) -> bool:
        """Whether a connection that nobody has any more is closed: libpq may be asked."""
        return bool(connection.closed)

    def open(self, wrapped: Wrapped, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the generator by which every connection is opened, whoever drives it."""
        del instance
        frame = sys._getframe(1)  # noqa: SLF001
        steps = wrapped(*args, **kwargs)
        return steps if kept_by_another(frame) else _opening(steps, Asked(self, (args, kwargs), self.ask(frame)))


def _opening(steps: Generator[Any, Any, Any], wait: Asked) -> Generator[Any, Any, Any]:
    with wait:
        connection = yield from steps
        wait.got(connection)
    return connection


def is_closed(connection: Any) -> bool:
    """Whether a connection is closed, without a call that could meet libpq freeing it in another thread."""
    libpq = getattr(connection, "pgconn", None)
    if getattr(connection, "_closed", False) or libpq is None:
        return True
    # Compiled, it keeps the interpreter lock while it frees; in Python, ctypes gives that away.
    return not type(libpq).__module__.startswith("psycopg.") and bool(libpq.status == _BAD)


class PsycopgInstrumentor(Instrumentor):
    """Watches psycopg 3.1 and later."""

    library = "psycopg"
    requires = "psycopg >= 3.1"
    handles = (Opened,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        watch = PsycopgConnections(running)
        sync, asyn = "psycopg.connection", "psycopg.connection_async"
        return [
            Point(sync, "Connection.close", watch.close, "connection"),
            Point(sync, "Connection.wait", watch.use, "connection"),
            Point(asyn, "AsyncConnection.close", watch.close, "connection"),
            Point(asyn, "AsyncConnection.wait", watch.use, "connection"),
            Point(sync, "BaseConnection.__del__", watch.drop, "connection"),
            # Not `connect`, which has several names, and which contrib wraps and unwraps.
            Point(sync, "BaseConnection._connect_gen", watch.open, "connection"),
        ]

"""PyMySQL: connections that a program opens itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._connections import ConnectWatch, kept_by_another
from crawlo_otel_leaks.instrumentation._mysql import MySQLOpen, MySQLWatch, place
from crawlo_otel_leaks.instrumentation._waiting import Waiting
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]


class PyMySQLWatch(MySQLWatch, ConnectWatch):
    """Connections by their own `connect`: `pymysql.connect` is the class, and `ping` opens them again."""

    handle = MySQLOpen

    def pool_of(self, thing: Any) -> Pool:
        """Return what stands for all connections to the server of this one."""
        return self.pools.server(self.kind, place(vars(thing)), semconv.POOL_METRICS)

    def closed(self, connection: Any) -> bool:
        """Whether it is closed."""
        return not connection.open

    def working(self, connection: Any) -> bool:
        """Whether a thread awaits the answer to a query."""
        handle = self._handles.get(id(connection))
        return handle is not None and handle.at_work

    def enter(self, pool: Pool, connection: Any, handle: Any) -> None:
        """Hold a connection, on which nothing runs yet."""
        handle.at_work = False
        super().enter(pool, connection, handle)

    def connect(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the method that opens the connection."""
        frame = sys._getframe(1)  # noqa: SLF001
        if kept_by_another(frame):
            return wrapped(*args, **kwargs)
        with Waiting(self, instance, frame) as wait:
            result = wrapped(*args, **kwargs)
            wait.got(instance)
        return result

    def use(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the method that sends a command."""
        self.safely("use", self.command, connection)
        return wrapped(*args, **kwargs)

    def query(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the method that sends a query and reads its answer."""
        handle = self._handles.get(id(connection))
        if handle is None:
            return wrapped(*args, **kwargs)
        handle.at_work = True
        try:
            return wrapped(*args, **kwargs)
        finally:
            handle.at_work = False

    def points(self) -> list[Point]:
        """Return the table; `close` and whatever finds the connection broken end in `_force_close`."""
        module = "pymysql.connections"
        return [
            Point(module, "Connection.__del__", self.drop, "all"),
            Point(module, "Connection._force_close", self.close, "all"),
            Point(module, "Connection._execute_command", self.use, "all"),
            Point(module, "Connection.query", self.query, "all"),
            Point(module, "Connection.connect", self.connect, "all"),
        ]


class PyMySQLInstrumentor(Instrumentor):
    """Watches PyMySQL 1 and later."""

    library = "pymysql"
    requires = "PyMySQL >= 1"
    handles = (MySQLOpen,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        return PyMySQLWatch(running).points()

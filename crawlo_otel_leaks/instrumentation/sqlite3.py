"""sqlite3: connections that the program opens itself, from `connect` to `close`."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.instrumentation._connections import ConnectWatch, OpenHandle, kept_by_another
from crawlo_otel_leaks.instrumentation._waiting import Waiting
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_FACTORY: Final = 5
"""Place of `factory` among the positional arguments of `connect`."""
CLASSES: Final = 100
"""Factories of the program's that have a watched subclass; connections of more are not watched."""
PROXIES: Final = 3
"""Proxies around one connection that are looked through."""


def database_name(database: Any, *, paths: bool) -> str:
    """Return what a database is called: its file, or only the file's suffix where paths are not told; no query."""
    name = os.fsdecode(database) if isinstance(database, (str, bytes, os.PathLike)) else ""
    name = name.partition("?")[0] or ":memory:"
    return name if paths or name == ":memory:" else f"*{PurePath(name).suffix}"


class SqliteWatch(ConnectWatch):
    """Connections of the standard library's sqlite3, a C type: only a subclass tells of its close and its end."""

    handle = OpenHandle

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self._classes: dict[type, type] = {}

    def target(self, args: Arguments, kwargs: Keywords) -> str:
        """Return the database's name."""
        database = args[0] if args else kwargs.get("database")
        return database_name(database, paths=self.tracker.capture_paths)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """No: nothing limits the connections to a file."""
        del pool, error
        return False

    def connect(self, wrapped: Any, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of `connect`: it makes a connection of a class that tells of its end."""
        del instance
        frame = sys._getframe(1)  # noqa: SLF001
        if kept_by_another(frame):
            return wrapped(*args, **kwargs)
        made: list[Any] = [args, kwargs]
        self.safely("factory", self._choose, made)
        args, kwargs = made
        with Waiting(self, (args, kwargs), frame) as wait:
            connection = wrapped(*args, **kwargs)
            wait.got(connection)
        return connection

    def enter(self, pool: Pool, connection: Any, handle: ConnectionHandle) -> None:
        """Hold a connection of a watched class, below the proxy that another instrumentation may have put around."""
        connection = _bare(connection)
        if type(connection) in self._classes.values():
            super().enter(pool, connection, handle)

    def find(self, thing: Any) -> Any:
        """Return the handle of a connection, or of another instrumentation's proxy around it."""
        return super().find(_bare(thing))

    def _choose(self, made: list[Any]) -> None:
        args, kwargs = made
        given = args[_FACTORY] if len(args) > _FACTORY else kwargs.get("factory", sys.modules["sqlite3"].Connection)
        if not isinstance(given, type) or (given not in self._classes and len(self._classes) >= CLASSES):
            return  # a function may return what it likes
        if given not in self._classes:
            self._classes[given] = self._subclass(given)
        if len(args) > _FACTORY:
            made[0] = (*args[:_FACTORY], self._classes[given], *args[_FACTORY + 1 :])
        else:
            made[1] = {**kwargs, "factory": self._classes[given]}

    def _subclass(self, factory: Any) -> type:
        watch = self

        def close(self: Any) -> None:
            factory.close(self)
            watch.gave_back(self)  # afterwards: refused to another thread, it stays open

        names = {"__slots__": () if factory.__weakrefoffset__ else ("__weakref__",)}
        about = {key: getattr(factory, key) for key in ("__module__", "__qualname__", "__doc__")}
        close.__doc__, close.__qualname__ = factory.close.__doc__, factory.close.__qualname__
        made: Any = type(factory)(factory.__name__, (factory,), {**about, **names, "close": close})
        return made  # type: ignore[no-any-return]  # a class


def _bare(thing: Any) -> Any:
    """Return what is below the proxies of other instrumentations."""
    for _ in range(PROXIES):
        thing = getattr(thing, "__wrapped__", thing)
    return thing


class Sqlite3Instrumentor(Instrumentor):
    """Watches the standard library's sqlite3."""

    handles = (OpenHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table; both names are one function."""
        watch = SqliteWatch(running)
        return [
            Point("sqlite3", "connect", watch.connect),
            Point("sqlite3", "dbapi2.connect", watch.connect),
        ]

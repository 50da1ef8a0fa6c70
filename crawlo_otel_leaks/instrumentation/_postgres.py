"""What the PostgreSQL drivers have in common: names, refusals, use, and connections of the program's own."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._asked import Asked, awaited
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._connections import ConnectWatch, OpenHandle, kept_by_another
from crawlo_otel_leaks.instrumentation._pools import PoolWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_WORD: Final = re.compile(r"(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^'\s\\]|\\.)*))")
_CROWDED: Final = ("too many connections", "too many clients", "remaining connection slots")


class PooledHandle(ConnectionHandle):
    """A connection out of a pool, whose uses are counted."""

    __slots__ = ("uses",)

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.uses = 0


class OpenedHandle(OpenHandle):
    """A connection that the program opened itself, whose uses are counted."""

    __slots__ = ("uses",)

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.uses = 0


class PostgresWatch(PoolWatch):
    """What is true of every PostgreSQL connection."""

    kind = semconv.DB_CONNECTION
    handle: type[ConnectionHandle] = PooledHandle
    _handles: dict[int, Any]

    def used(self, connection: Any) -> object:
        """Return how often it was used."""
        handle = self._handles.get(id(connection))
        return None if handle is None else handle.uses

    def note_use(self, connection: Any) -> bool:
        """Count a use; False if the connection is none of these."""
        handle = self._handles.get(id(connection))
        if handle is not None:
            handle.uses += 1
            # Who uses it in the first moment is whoever asked for it, and most are given back by then.
            if not handle.shared and self.tracker.clock() - handle.acquired_at >= self.tracker.brief:
                self.safely("use", self.tracker.use, handle)
        return handle is not None

    def use(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of what every use of a connection goes through."""
        self.note_use(connection)
        return wrapped(*args, **kwargs)


class PostgresConnections(PostgresWatch, ConnectWatch):
    """Connections that the program opened itself."""

    handle = OpenedHandle

    def target(self, args: Arguments, kwargs: Keywords) -> str:
        """Return `host:port/database`."""
        return target(args[0] if args else kwargs.get("dsn") or kwargs.get("conninfo"), kwargs)

    def refused(self, thing: Any, error: BaseException) -> bool:
        """Whether the server has no more."""
        del thing
        return is_crowded(error)

    def connect_later(self, wrapped: Wrapped, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a function that returns a coroutine for an open connection."""
        del instance
        frame = sys._getframe(1)  # noqa: SLF001
        if kept_by_another(frame):
            return wrapped(*args, **kwargs)
        return awaited(wrapped, Asked(self, (args, kwargs), self.ask(frame)), args, kwargs)

    def drop(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of `__del__`."""
        self.left(connection)
        return wrapped(*args, **kwargs)

    def left(self, connection: Any) -> None:
        """Record that a connection is being collected; what is closed by then, by whichever side, was not left."""
        if id(connection) in self._handles:
            (self.gave_back if self.over(connection) else self.dropped)(connection)

    def over(self, connection: Any) -> bool:
        """Whether a connection that nobody has any more is closed."""
        return self.closed(connection)


def is_crowded(error: BaseException) -> bool:
    """Whether a server refused a connection because it has too many, by what libpq says."""
    return type(error).__name__ == "OperationalError" and any(words in str(error) for words in _CROWDED)


def target(dsn: object, named: Mapping[str, Any]) -> str:
    """Return `host:port/database` as libpq would find it in a URL or `key=value` string, arguments and environment.

    Several hosts are told as they were given, and a socket's directory in the place of a host.
    """
    said = {**_said(dsn if isinstance(dsn, str) else ""), **{key: one for key, one in named.items() if one is not None}}
    host = said.get("host") or said.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
    port = said.get("port") or os.environ.get("PGPORT") or "5432"
    user = said.get("user") or os.environ.get("PGUSER") or ""
    database = said.get("dbname") or said.get("database") or os.environ.get("PGDATABASE") or user
    return f"{_listed(host)}:{_listed(port)}/{database}"


def _said(dsn: str) -> dict[str, str]:
    if "://" not in dsn:
        return {key: re.sub(r"\\(.)", r"\1", quoted or plain) for key, quoted, plain in _WORD.findall(dsn)}
    rest, _, query = dsn.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    user, _, places = authority.rpartition("@")
    hosts, ports = zip(*(_place(one) for one in places.split(",")), strict=True)
    found = {
        "user": unquote(user.partition(":")[0]),
        "host": unquote(",".join(hosts)),
        "port": ",".join(filter(None, ports)),
        "dbname": unquote(database),
    }
    return {key: one for key, one in {**found, **dict(parse_qsl(query))}.items() if one}


def _place(text: str) -> tuple[str, str]:
    """Split `host:port`, where the host may be an IPv6 address in brackets."""
    host, found, port = text.rpartition(":")
    return (host, port) if found and not port.endswith("]") else (text, "")


def _listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

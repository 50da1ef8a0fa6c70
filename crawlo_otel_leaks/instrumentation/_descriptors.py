"""The descriptor below a library's socket, transport, stream writer or connection."""

from __future__ import annotations

from typing import Any, Final

_BELOW: Final = ("_transport", "_writer", "_sock", "conn")
"""Where asyncpg, aiomysql and asyncmy, PyMySQL, and PyMongo have what they talk through."""


def of(thing: Any) -> tuple[int, ...]:
    """Return the number of its descriptor, none where it has none, or none any more. Reads attributes only."""
    known = getattr(thing, "get_extra_info", None)
    socket = thing if known is None else known("socket")
    fileno = getattr(socket, "fileno", None)
    number = -1 if fileno is None else fileno()
    return (number,) if number >= 0 else ()


def below(connection: Any) -> Any:
    """Return what has the descriptor of a driver's connection: a transport, a writer, a socket, or libpq's number."""
    try:
        if hasattr(connection, "pgconn"):
            return _LibPQ(connection.pgconn)
        if getattr(connection, "closed", True) == 0 and hasattr(connection, "fileno"):  # psycopg2
            return connection
        found = (getattr(connection, name, None) for name in _BELOW)
        thing = next((one for one in found if one is not None), None)
        return getattr(thing, "sock", thing)
    except Exception:  # noqa: BLE001  (a proxy of a connection that was given back refuses by the library's own errors)
        return None


class _LibPQ:
    """A connection of psycopg 3, asked only where it is compiled: it keeps the interpreter lock while it is freed."""

    def __init__(self, libpq: Any) -> None:
        self._libpq = libpq

    def fileno(self) -> int:
        if type(self._libpq).__module__.startswith("psycopg."):
            return -1
        try:
            return int(self._libpq.socket)
        except Exception:  # noqa: BLE001  (psycopg's own, of one that is closed)
            return -1

"""What all connections have in common that a program opens and closes itself, outside of any pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.model import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.pool import Pool

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

KEEPERS: Final = (
    "aiomysql.pool",
    "aiosqlite.",
    "asyncmy.pool",
    "asyncpg.pool",
    "dbutils.",
    "django.db.",  # one for each thread, kept from request to request by a setting of its own
    "psycopg2.pool",
    "psycopg_pool.",
    "sqlalchemy.",
)
"""Modules whose connections are their own: they are watched when somebody takes one out."""
REACH: Final = 60
"""Frames among which a keeper is looked for."""


class OpenHandle(ConnectionHandle):
    """A connection that the program opened itself. Like a session it may be kept for long by design."""

    __slots__ = ("opener",)
    opener: ConnectWatch
    lasting = True
    shareable = True

    @property
    def watch(self) -> ConnectWatch:
        """Who records it: in the pool that stands for a server there may be those of many libraries."""
        return self.opener

    def progress(self) -> Progress:
        """Tell use by what the library counts; one that is closed by the other side is none any more."""
        connection = self.referent()
        if connection is not None and self.watch.closed(connection):
            self.watch.gave_back(connection)
            return Progress(visible=False)
        return super().progress()


class ConnectWatch(PoolWatch):
    """The wrappers for one library's own connections; what differs is in the methods that subclasses override.

    All connections to one server stand for a pool whose limit only the server knows, so that whom it refuses
    one is told who holds the others.
    """

    kind = semconv.DB_CONNECTION
    handle = OpenHandle

    def target(self, args: Arguments, kwargs: Keywords) -> str:
        """Return the `server:port/namespace` that the arguments of a connect name; never a secret."""
        raise NotImplementedError

    # -- wrappers ---------------------------------------------------------------------------------------

    def close(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that closes the connection."""
        self.gave_back(connection)
        return wrapped(*args, **kwargs)

    def drop(self, wrapped: Wrapped, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of `__del__`, which may close what nobody closed."""
        self.dropped(connection)
        return wrapped(*args, **kwargs)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def enter(self, pool: Pool, connection: Any, handle: Any) -> None:
        """Hold a connection that was opened here."""
        handle.opener = self
        super().enter(pool, connection, handle)

    def pool_of(self, thing: Any) -> Pool:
        """Return what stands for all connections to the server that the arguments of a connect name."""
        args, kwargs = thing
        return self.pools.server(self.kind, self.target(args, kwargs), semconv.POOL_METRICS)

    def _collected(self, key: int, handle: ConnectionHandle) -> None:
        handle.pool.held.pop(handle, None)  # in no pool, it is charged to none
        super()._collected(key, handle)

    def holding(self, pool: Pool) -> Sequence[Handle]:
        """Return what is open to a server, out of pools too."""
        return [handle for one in self.pools if one.name == pool.name for handle in list(one.held)]


def kept_by_another(frame: FrameType | None) -> bool:
    """Whether a pool, or a library on top, is opening the connection for itself."""
    for _ in range(REACH):
        if frame is None:
            return False
        if str(frame.f_globals.get("__name__")).startswith(KEEPERS):
            return True
        frame = frame.f_back
    return False

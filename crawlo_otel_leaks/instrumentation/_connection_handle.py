"""What stands for a connection while somebody has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation import _descriptors
from crawlo_otel_leaks.model import Handle, Progress

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterable

    from crawlo_otel_leaks.instrumentation._pool_book import PoolBook
    from crawlo_otel_leaks.pool import Pool


class ConnectionHandle(Handle):
    """A connection that was taken out of a pool, or opened."""

    __slots__ = ("connection", "pool")
    connection: weakref.ref[Any] | None
    pool: Pool

    @property
    def name(self) -> str:  # type: ignore[override]  # nobody gives it another
        """What its pool is called; nothing while it is in none yet."""
        pool = getattr(self, "pool", None)
        return pool.name if pool else ""

    @property
    def watch(self) -> PoolBook:
        """Who records its pool."""
        return self.pool.watch  # type: ignore[no-any-return]  # a layer above the pool

    def busy(self) -> bool:
        """Whether a command runs on it right now, as far as the library shows that."""
        connection = self.referent()
        return connection is not None and self.watch.working(connection)

    def progress(self) -> Progress:
        """Tell use by what the library counts."""
        connection = self.referent()
        token = None if connection is None else self.watch.used(connection)
        return Progress(token, visible=token is not None or self.watch.use_is_seen)

    def descriptors(self) -> Iterable[int]:
        """Return the descriptor of the socket below, as far as the library shows that."""
        connection = self.referent()
        return () if connection is None else _descriptors.of(self.watch.socket(connection))

    def loop_closed(self) -> bool:
        """Whether the event loop is closed in which alone it could be given back."""
        loop = self.watch.loop(self.referent())
        return loop is not None and bool(loop.is_closed())

    def referent(self) -> object | None:
        """Return the connection while it lives."""
        return self.connection() if self.connection else None

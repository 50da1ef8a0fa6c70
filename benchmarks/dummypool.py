"""A pool that does nothing, watched as the libraries' pools are: what tracking itself costs, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._direct import acquiring, releasing
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from crawlo_otel_leaks import runtime


class Connection:
    """What a dummy pool gives."""


class Pool:
    """A pool that does nothing but give and take back its one connection."""

    def __init__(self) -> None:
        self._connection = Connection()

    def take(self) -> Connection:
        """Return the connection."""
        return self._connection

    async def take_async(self) -> Connection:
        """Return the connection."""
        return self._connection

    def give_back(self, connection: Connection) -> None:
        """Take the connection back."""

    async def give_back_async(self, connection: Connection) -> None:
        """Take the connection back."""


class HotPool(Pool):
    """One that is asked at every turn, as redis's are: functions stand in its class themselves."""


class Watch(PoolWatch):
    """Watches the dummy pool."""

    kind = semconv.DB_CONNECTION

    def __init__(self, running: runtime.Runtime) -> None:
        super().__init__(running)
        self.quicken("ask", "begin", "wait_for", "got", "gave_back", "_end")

    def name(self, pool: Any) -> str:  # noqa: ANN401  (as the base has it)
        """Return a name."""
        del pool
        return "dummy"

    def limits(self, pool: Any) -> Limits:  # noqa: ANN401  (as the base has it)
        """Return sizes."""
        del pool
        return Limits(max=1)


class PoolInstrumentor(Instrumentor):
    """Watches the dummy pool, as the libraries' pools are watched."""

    def points(self, running: runtime.Runtime) -> list[Point]:
        """Return the table."""
        watch = Watch(running)
        return [
            Point(__name__, "HotPool.give_back", releasing(watch), direct=True),
            Point(__name__, "HotPool.take", acquiring(watch), direct=True),
            Point(__name__, "Pool.give_back", watch.release),
            Point(__name__, "Pool.give_back_async", watch.release_async),
            Point(__name__, "Pool.take", watch.acquire),
            Point(__name__, "Pool.take_async", watch.acquire_async),
        ]

"""redis-py and valkey-py, which have the same shape: connections out of their pools, sync and asyncio."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._pools import ConnectionHandle, PoolWatch
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from crawlo_otel_leaks.runtime import Runtime

_EMITTED = frozenset(
    {
        semconv.METRIC_POOL_COUNT,
        semconv.METRIC_POOL_TIMEOUTS,
        semconv.METRIC_POOL_CREATE_TIME,
        semconv.METRIC_POOL_WAIT_TIME,
        semconv.METRIC_POOL_USE_TIME,
    },
)
"""What redis-py 7.1 and newer emits itself once its observability is switched on."""


class RedisWatch(PoolWatch):
    """Pools of redis-py or valkey-py, by the name of the package."""

    kind = semconv.REDIS_CONNECTION
    use_is_seen = True  # it is out only within a call, or with a listener that awaits it

    def __init__(self, running: Runtime, package: str) -> None:
        super().__init__(running)
        self._package = package

    def name(self, pool: Any) -> str:
        """Return `host:port/db`, or the socket's path; of a sentinel's pool, its service."""
        settings = pool.connection_kwargs
        place = settings.get("path") or getattr(pool, "service_name", None)
        host = getattr(pool, "host", None) or settings.get("host", "localhost")
        port = getattr(pool, "port", None) or settings.get("port", 6379)
        return f"{place or f'{host}:{port}'}/{settings.get('db') or 0}"

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes."""
        idle = getattr(pool, "_available_connections", None)
        if idle is None:
            queue = getattr(pool, "pool", None)
            idle = [one for one in list(getattr(queue, "queue", ())) if one is not None]
        most = pool.max_connections
        return Limits(max=most if most < 2**31 else None, idle=len(idle), idle_max=most if most < 2**31 else None)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether the pool had none left: no subclass tells that apart in all releases, the text does."""
        del pool
        return type(error).__name__ in ("MaxConnectionsError", "ConnectionError") and str(error).startswith(
            ("Too many connections", "No connection available"),
        )

    def silent(self) -> frozenset[str]:
        """Return what the library's own observability emits, when it is on."""
        try:
            on = importlib.import_module(f"{self._package}.observability.recorder").is_enabled()
        except (ImportError, AttributeError):
            return frozenset()
        return _EMITTED if on else frozenset()

    def working(self, connection: Any) -> bool:
        """Whether a task awaits an answer on it; of a thread that does, its stack tells."""
        return getattr(getattr(connection, "_reader", None), "_waiter", None) is not None

    def socket(self, connection: Any) -> Any:
        """Return the socket, or asyncio's writer."""
        return getattr(connection, "_sock", None) or getattr(connection, "_writer", None)

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether the pool still counts a connection as out, after a release that did not come through."""
        return connection in getattr(pool, "_in_use_connections", ())

    def points(self) -> list[Point]:
        """Return the table."""
        sync, asyn = f"{self._package}.connection", f"{self._package}.asyncio.connection"
        cluster = f"{self._package}.asyncio.cluster"
        return [
            Point(sync, "ConnectionPool.release", self.release, "sync"),
            Point(sync, "BlockingConnectionPool.release", self.release, "sync"),
            Point(sync, "ConnectionPool.get_connection", self.acquire, "sync"),
            Point(sync, "BlockingConnectionPool.get_connection", self.acquire, "sync"),
            Point(asyn, "ConnectionPool.release", self.release_async, "asyncio"),
            Point(asyn, "ConnectionPool.get_connection", self.acquire_async, "asyncio"),
            Point(asyn, "BlockingConnectionPool.get_connection", self.acquire_async, "asyncio"),
            # Before it had a release of its own, a node's connection was out only within one call.
            Point(cluster, "ClusterNode.release", self.release, "cluster", optional=True),
            Point(cluster, "ClusterNode.acquire_connection", self.acquire, "cluster", optional=True),
        ]


class RedisInstrumentor(Instrumentor):
    """Watches redis-py 5 and later."""

    library = "redis"
    requires = "redis >= 5"
    handles = (ConnectionHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        return RedisWatch(running, "redis").points()


class ValkeyInstrumentor(Instrumentor):
    """Watches valkey-py 6 and later."""

    library = "valkey"
    requires = "valkey >= 6"
    handles = (ConnectionHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        return RedisWatch(running, "valkey").points()

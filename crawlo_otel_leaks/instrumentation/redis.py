"""redis-py and valkey-py, which have the same shape: connections out of their pools, sync and asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._direct import acquiring, acquiring_async, releasing, releasing_async
from crawlo_otel_leaks.instrumentation._redis_pools import NodeWatch, RedisHandle, RedisWatch
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]


def _points(running: Runtime, package: str) -> list[Point]:
    watch, nodes = RedisWatch(running, package), NodeWatch(running, package)
    cluster = f"{package}.asyncio.cluster"
    return [
        *_of_pools(f"{package}.connection", acquiring(watch), releasing(watch), watch),
        *_of_pools(f"{package}.asyncio.connection", acquiring_async(watch), releasing_async(watch), watch),
        *_of_users(f"{package}.client", watch.use),
        *_of_users(f"{package}.asyncio.client", watch.use_async),
        # Before it had a release of its own, a node's connection was out only within one call.
        Point(cluster, "ClusterNode.release", nodes.release, "cluster", optional=True),
        Point(cluster, "ClusterNode.acquire_connection", nodes.acquire, "cluster", optional=True),
        Point(cluster, "ClusterNode.disconnect", nodes.disconnect, "cluster", optional=True),
    ]


def _of_pools(module: str, acquire: Wrapped, release: Wrapped, watch: RedisWatch) -> list[Point]:
    """Return the points of both kinds of pool; what one inherits from the other is wrapped once."""
    methods = {
        "release": (release, True),
        "disconnect": (watch.disconnect, False),
        "make_connection": (watch.make, False),
        "get_connection": (acquire, True),
    }
    return [
        Point(module, f"{kind}.{name}", stand, module, direct=direct)
        for name, (stand, direct) in methods.items()
        for kind in ("ConnectionPool", "BlockingConnectionPool")
    ]


def _of_users(module: str, use: Wrapped) -> list[Point]:
    """Return the points of those that may wait for hours; contrib wraps none of them, so neither undoes the other."""
    names = ("PubSub.parse_response", "PubSub.execute_command", "Monitor.next_command")
    return [Point(module, name, use) for name in names]


class RedisInstrumentor(Instrumentor):
    """Watches redis-py 5 and later."""

    library = "redis"
    requires = "redis >= 5"
    handles = (RedisHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        return _points(running, "redis")


class ValkeyInstrumentor(Instrumentor):
    """Watches valkey-py 6 and later."""

    library = "valkey"
    requires = "valkey >= 6"
    handles = (RedisHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        return _points(running, "valkey")

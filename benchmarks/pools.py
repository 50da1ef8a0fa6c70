"""Connection pools on real servers: take one, ask one thing, give it back; microseconds each."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import servers


def redis_gets(loops: int) -> Callable[[], float]:
    """GET over redis-py's pool."""
    import redis  # noqa: PLC0415  (optional, as all libraries here)

    host, port = servers.valkey()
    client = redis.Redis(host=host, port=port)
    client.set("key", "value")

    def work() -> float:
        start = time.perf_counter()
        for _ in range(loops):
            client.get("key")
        return (time.perf_counter() - start) / loops * 1e6

    return work


def sqlalchemy_checkouts(loops: int) -> Callable[[], float]:
    """Checkout and checkin of a QueuePool, on SQLite in memory."""
    from sqlalchemy import create_engine, pool  # noqa: PLC0415

    engine = create_engine("sqlite://", poolclass=pool.QueuePool)

    def work() -> float:
        start = time.perf_counter()
        for _ in range(loops):
            engine.raw_connection().close()
        return (time.perf_counter() - start) / loops * 1e6

    return work


class _OnLoop:
    """Repeats a coroutine function on a loop that lives as long as the client it uses."""

    def __init__(self, loops: int) -> None:
        self._loops = loops
        self._loop = asyncio.new_event_loop()
        self._ask: Callable[[], Awaitable[Any]] = self._loop.run_until_complete(self._open())

    async def _open(self) -> Callable[[], Awaitable[Any]]:
        raise NotImplementedError

    async def _all(self) -> float:
        start = time.perf_counter()
        for _ in range(self._loops):
            await self._ask()
        return (time.perf_counter() - start) / self._loops * 1e6

    def __call__(self) -> float:
        """Run one round."""
        return self._loop.run_until_complete(self._all())


class AsyncRedisGets(_OnLoop):
    """GET over redis.asyncio's pool."""

    async def _open(self) -> Callable[[], Awaitable[Any]]:
        from redis.asyncio import Redis  # noqa: PLC0415

        host, port = servers.valkey()
        client = Redis(host=host, port=port)
        await client.set("key", "value")
        return lambda: client.get("key")


class AsyncpgSelects(_OnLoop):
    """Acquire, SELECT 1 and release of an asyncpg pool."""

    async def _open(self) -> Callable[[], Awaitable[Any]]:
        import asyncpg  # noqa: PLC0415

        pool = await asyncpg.create_pool(servers.postgres(), min_size=1, max_size=2)

        async def ask() -> None:
            async with pool.acquire() as connection:
                await connection.fetchval("SELECT 1")

        return ask

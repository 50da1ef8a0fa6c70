"""Connection pools on real servers: take one, ask one thing, give it back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from works import LoopWork, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import servers


def redis_gets(loops: int) -> Work:
    """GET over redis-py's pool."""
    import redis  # noqa: PLC0415  (optional, as all libraries here)

    host, port = servers.valkey()
    client = redis.Redis(host=host, port=port)
    client.set("key", "value")
    return Work(loops, lambda: client.get("key"))


def sqlalchemy_checkouts(loops: int) -> Work:
    """Checkout and checkin of a QueuePool, on SQLite in memory."""
    from sqlalchemy import create_engine, pool  # noqa: PLC0415

    engine = create_engine("sqlite://", poolclass=pool.QueuePool)
    work = Work(loops, lambda: engine.raw_connection().close())
    work.engine = engine
    return work


class AsyncRedisGets(LoopWork):
    """GET over redis.asyncio's pool."""

    async def open(self) -> Callable[[], Awaitable[Any]]:
        """Connect."""
        from redis.asyncio import Redis  # noqa: PLC0415

        host, port = servers.valkey()
        client = Redis(host=host, port=port)
        await client.set("key", "value")
        self.shut = client.aclose
        return lambda: client.get("key")


class AsyncpgSelects(LoopWork):
    """Acquire, SELECT 1 and release of an asyncpg pool."""

    async def open(self) -> Callable[[], Awaitable[Any]]:
        """Connect."""
        import asyncpg  # noqa: PLC0415

        pool = await asyncpg.create_pool(servers.postgres(), min_size=1, max_size=2)
        self.shut = pool.close

        async def ask() -> None:
            async with pool.acquire() as connection:
                await connection.fetchval("SELECT 1")

        return ask

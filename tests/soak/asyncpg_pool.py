"""An asyncio service over an asyncpg pool: transactions, failures, cancelled queries, a LISTEN for life."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
from opentelemetry import trace

SERVER = "postgres"
tracer = trace.get_tracer("soak")


async def serve(url: str) -> None:
    async with asyncpg.create_pool(url, min_size=2, max_size=8) as pool:
        stop = asyncio.Event()
        listener = asyncio.create_task(listen(pool, stop))
        for start in range(0, 2_500, 50):
            await asyncio.gather(*(request(pool, number) for number in range(start, start + 50)))
        stop.set()
        await listener


async def request(pool, number):
    with tracer.start_as_current_span("request"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.fetchval("SELECT $1::int", number)
        await pool.fetchval("SELECT 1")
        with contextlib.suppress(asyncpg.UndefinedColumnError):
            await pool.execute("SELECT no_such_column")
        if number % 50 == 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(pool.execute("SELECT pg_sleep(5)"), 0.01)


async def listen(pool, stop):
    async with pool.acquire() as connection:
        await connection.add_listener("news", print)
        await stop.wait()
        await connection.remove_listener("news", print)

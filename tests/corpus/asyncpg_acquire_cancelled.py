"""asyncpg #547 and #467: whoever asks for a connection gives up at the moment it comes, and nobody has it.

asyncpg awaited the acquisition in a task of its own, whose result a cancelled `wait_for` lost. It has not since
Python 3.10's `wait_for`; programs that shield the acquisition, as users were advised to, lose it in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
from opentelemetry import trace

SERVER = "postgres"
LEAKS = [("db.connection", "owner_finished", "acquire_or_give_up")]
kept = []


async def leaky(url: str) -> None:
    await cancelled_when_it_comes(url, acquire_or_give_up)


async def clean(url: str) -> None:
    await cancelled_when_it_comes(url, acquire_or_give_back)


async def acquire_or_give_up(pool):
    return await asyncio.shield(asyncio.ensure_future(pool.acquire(timeout=200)))


async def acquire_or_give_back(pool):
    asked = asyncio.ensure_future(pool.acquire(timeout=200))
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        asked.add_done_callback(lambda done: asyncio.ensure_future(pool.release(done.result())))
        raise


async def cancelled_when_it_comes(url, acquire):
    pool = await asyncpg.create_pool(url, min_size=0, max_size=3)
    kept.append(pool)
    for _ in range(3):
        task = asyncio.create_task(use(pool, acquire))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def use(pool, acquire):
    with trace.get_tracer("corpus").start_as_current_span("job"):
        connection = await acquire(pool)
        try:
            await connection.execute("select 1")
        finally:
            await pool.release(connection)

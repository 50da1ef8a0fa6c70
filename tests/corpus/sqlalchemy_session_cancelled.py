"""SQLAlchemy #6652: a session of a cancelled task, which its close comes too late for, keeps its connection out.

Whoever gathers the tasks keeps their exceptions, those keep the tracebacks, and those the sessions.
"""

from __future__ import annotations

import asyncio

from opentelemetry import trace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

SERVER = "postgres"
LEAKS = [("db.connection", "owner_finished", "export")]
outcomes = []


async def leaky(url: str) -> None:
    async def export(engine):
        with trace.get_tracer("corpus").start_as_current_span("job"):
            session = AsyncSession(engine)
            await session.execute(text("select 1"))
            await asyncio.sleep(3600)
            await session.close()

    await run_until_cancelled(export, url)


async def clean(url: str) -> None:
    async def export(engine):
        with trace.get_tracer("corpus").start_as_current_span("job"):
            async with AsyncSession(engine) as session:
                await session.execute(text("select 1"))
                await asyncio.sleep(3600)

    await run_until_cancelled(export, url)


async def run_until_cancelled(export, url):
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    tasks = [asyncio.create_task(export(engine)) for _ in range(2)]
    await asyncio.wait(tasks, timeout=0.2)
    for task in tasks:
        task.cancel()
    outcomes.append((engine, await asyncio.gather(*tasks, return_exceptions=True)))

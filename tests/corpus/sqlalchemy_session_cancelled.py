"""SQLAlchemy #8340: a scoped session is its task's until `remove()`, which a cancelled task does not come to.

The registry keeps task and session for ever, and the session its connection.
"""

from __future__ import annotations

import asyncio

from opentelemetry import trace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.orm import sessionmaker

SERVER = "postgres"
LEAKS = [("db.connection", "owner_finished", "count")]
sessions = []


async def leaky(url: str) -> None:
    async def export(session, counted):
        with trace.get_tracer("corpus").start_as_current_span("job"):
            await count(session, counted)
            await asyncio.sleep(3600)
            await session.remove()

    await cancelled(export, url)


async def clean(url: str) -> None:
    async def export(session, counted):
        with trace.get_tracer("corpus").start_as_current_span("job"):
            try:
                await count(session, counted)
                await asyncio.sleep(3600)
            finally:
                await session.remove()

    await cancelled(export, url)


async def count(session, counted):
    await session.execute(text("select count(*) from pg_class"))
    counted.release()


async def cancelled(export, url):
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    session = async_scoped_session(sessionmaker(engine, class_=AsyncSession), scopefunc=asyncio.current_task)
    sessions.append(session)
    counted = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(export(session, counted)) for _ in range(2)]
    for _ in tasks:
        await counted.acquire()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

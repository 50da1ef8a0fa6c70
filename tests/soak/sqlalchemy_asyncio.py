"""An asyncio service over SQLAlchemy: sessions, streams, rollbacks, cancelled queries."""

from __future__ import annotations

import asyncio
import contextlib

from opentelemetry import trace
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

SERVER = "postgres"
tracer = trace.get_tracer("soak")


async def serve(url: str) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=4, max_overflow=8)
    for start in range(0, 2_500, 50):
        await asyncio.gather(*(request(engine, number) for number in range(start, start + 50)))
    await engine.dispose()


async def request(engine, number):
    with tracer.start_as_current_span("request"):
        async with AsyncSession(engine) as session:
            (await session.execute(text("SELECT CAST(:n AS int)"), {"n": number})).scalar()
            await session.commit()
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT no_such_column"))
        except exc.ProgrammingError:
            pass
        if number % 50 == 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(sleep(engine), 0.01)


async def sleep(engine):
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_sleep(5)"))

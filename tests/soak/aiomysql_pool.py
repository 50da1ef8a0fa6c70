"""An asyncio service over an aiomysql pool: transactions, failures, cancelled queries."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import aiomysql
import pymysql
from opentelemetry import trace

SERVER = "mariadb"
tracer = trace.get_tracer("soak")


async def serve(url: str) -> None:
    at = urlsplit(url)
    where = {"host": at.hostname, "port": at.port, "user": at.username, "password": at.password}
    async with aiomysql.create_pool(minsize=1, maxsize=8, db=at.path[1:], **where) as pool:
        for start in range(0, 2_500, 50):
            await asyncio.gather(*(request(pool, number) for number in range(start, start + 50)))


async def request(pool, number):
    with tracer.start_as_current_span("request"):
        for query in ("SELECT 1", "SELECT 2", "SELECT no_such_column"):
            try:
                async with pool.acquire() as connection, connection.cursor() as cursor:
                    await cursor.execute(query)
                    await cursor.fetchall()
            except pymysql.err.OperationalError:
                pass
        if number % 50 == 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(sleep(pool), 0.01)


async def sleep(pool):
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT SLEEP(5)")

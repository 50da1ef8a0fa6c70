"""aiomysql #553: a query that fails skips the release, its connection stays out, and `acquire` hangs in the end."""

from __future__ import annotations

import contextlib
from urllib.parse import unquote, urlsplit

import aiomysql
from opentelemetry import trace

SERVER = "mariadb"
LEAKS = [("db.connection", "owner_finished", "count")]
_pools = []
"""What the program's pools are kept by, as a service keeps its own."""


async def leaky(url: str) -> None:
    await serve(url, count)


async def clean(url: str) -> None:
    await serve(url, count_released)


async def serve(url, ask):
    """Answer three requests; the second one names a table that is not there."""
    where = urlsplit(url)
    pool = await aiomysql.create_pool(
        host=where.hostname,
        port=where.port,
        user=unquote(where.username),
        password=unquote(where.password),
        db=where.path.lstrip("/"),
        maxsize=2,
    )
    _pools.append(pool)
    for table in ("information_schema.tables", "no_such_table", "information_schema.tables"):
        with trace.get_tracer("corpus").start_as_current_span("job"), contextlib.suppress(aiomysql.ProgrammingError):
            await ask(pool, table)


async def count(pool, table):
    connection = await pool.acquire()
    async with connection.cursor() as cursor:
        await cursor.execute(f"SELECT COUNT(*) FROM {table}")
        (number,) = await cursor.fetchone()
    pool.release(connection)
    return number


async def count_released(pool, table):
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(f"SELECT COUNT(*) FROM {table}")
        (number,) = await cursor.fetchone()
    return number

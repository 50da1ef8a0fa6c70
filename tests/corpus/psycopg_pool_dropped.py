"""psycopg_pool: a connection that is dropped is collected, and its pool counts it as out for ever."""

from __future__ import annotations

import contextlib

import psycopg
import psycopg_pool
from opentelemetry import trace

SERVER = "postgres"
LEAKS = [("db.connection", "abandoned", "count_users")]
kept = []


async def leaky(url: str) -> None:
    await serve(url, count_users)


async def clean(url: str) -> None:
    await serve(url, count_users_and_put_back)


async def count_users(pool):
    connection = await pool.getconn()
    await connection.execute("select count(*) from no_such_table")
    await pool.putconn(connection)


async def count_users_and_put_back(pool):
    async with pool.connection() as connection:
        await connection.execute("select count(*) from no_such_table")


async def serve(url, work):
    pool = psycopg_pool.AsyncConnectionPool(url, min_size=1, max_size=3, open=False)
    await pool.open()
    kept.append(pool)
    for _ in range(2):
        with (
            contextlib.suppress(psycopg.errors.UndefinedTable),
            trace.get_tracer("corpus").start_as_current_span("request"),
        ):
            await work(pool)

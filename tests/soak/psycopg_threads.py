"""A threaded service over psycopg_pool: transactions, failures, broken connections, bare connections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import psycopg_pool
from opentelemetry import trace

SERVER = "postgres"
tracer = trace.get_tracer("soak")


def serve(url: str) -> None:
    with (
        psycopg_pool.ConnectionPool(url, min_size=2, max_size=8, open=True) as pool,
        ThreadPoolExecutor(12) as executor,
    ):
        list(executor.map(lambda number: request(pool, url, number), range(2_500)))


def request(pool, url, number):
    with tracer.start_as_current_span("request"):
        with pool.connection() as connection, connection.transaction():
            connection.execute("SELECT %s", (number,)).fetchone()
        try:
            with pool.connection() as connection:
                connection.execute("SELECT no_such_column")
        except psycopg.errors.UndefinedColumn:
            pass
        if number % 250 == 0:
            try:
                with pool.connection() as connection:
                    connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            except psycopg.OperationalError:
                pass
        if number % 100 == 0:
            with psycopg.connect(url) as bare:
                bare.execute("SELECT 1")

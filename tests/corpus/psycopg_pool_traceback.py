"""psycopg_pool: a connection that nobody puts back lives on in the traceback of an exception that somebody keeps."""

from __future__ import annotations

import psycopg
import psycopg_pool
from opentelemetry import trace

SERVER = "postgres"
LEAKS = [("db.connection", "owner_finished", "count_users")]
failures = []
kept = []


def leaky(url: str) -> None:
    serve(url, count_users)


def clean(url: str) -> None:
    serve(url, count_users_and_put_back)


def count_users(pool):
    connection = pool.getconn()
    count = connection.execute("select count(*) from no_such_table").fetchone()
    pool.putconn(connection)
    return count


def count_users_and_put_back(pool):
    with pool.connection() as connection:
        return connection.execute("select count(*) from no_such_table").fetchone()


def serve(url, work):
    pool = psycopg_pool.ConnectionPool(url, min_size=1, max_size=3, open=True)
    kept.append(pool)
    for _ in range(2):
        with trace.get_tracer("corpus").start_as_current_span("request"):
            try:
                work(pool)
            except psycopg.errors.UndefinedTable as error:
                failures.append(error)  # for the report at the end of the day

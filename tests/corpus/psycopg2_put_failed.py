"""psycopg2 #62 and its like: what cannot be rolled back is never put back, and the pool counts it as out for ever."""

from __future__ import annotations

import contextlib

import psycopg2
import psycopg2.pool
from opentelemetry import trace

SERVER = "postgres"
LEAKS = [("db.connection", "owner_finished", "query")]
kept = []


def leaky(url: str) -> None:
    serve(url, close=False)


def clean(url: str) -> None:
    serve(url, close=True)


def serve(url, *, close):
    pool = psycopg2.pool.ThreadedConnectionPool(2, 4, url)
    kept.append(pool)
    for _ in range(2):
        with (
            contextlib.suppress(psycopg2.OperationalError),
            trace.get_tracer("corpus").start_as_current_span("request"),
        ):
            query(pool, close=close)


def query(pool, *, close):
    connection = pool.getconn()
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    the_server_restarts(pool, connection)
    pool.putconn(connection, close=close)


def the_server_restarts(pool, connection):
    other = pool.getconn()
    with other.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
    pool.putconn(other)

"""A threaded service over a psycopg2 pool: transactions, failures, bare connections, one for each thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.pool
from opentelemetry import trace

SERVER = "postgres"
tracer = trace.get_tracer("soak")
of_thread = threading.local()
opened = []


def serve(url: str) -> None:
    pool = psycopg2.pool.ThreadedConnectionPool(2, 8, url)
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda number: request(pool, url, number), range(2_500)))
    pool.closeall()
    for connection in opened:
        connection.close()


def request(pool, url, number):
    with tracer.start_as_current_span("request"):
        connection = pool.getconn()
        try:
            query(connection, "SELECT no_such_column" if number % 50 == 0 else "SELECT 1")
        except psycopg2.errors.UndefinedColumn:
            connection.rollback()
        finally:
            pool.putconn(connection)
        query(connection_of_thread(url), "SELECT 1")
        if number % 100 == 0:
            bare = psycopg2.connect(url)
            query(bare, "SELECT 1")
            bare.close()


def connection_of_thread(url):
    if not hasattr(of_thread, "connection"):
        of_thread.connection = psycopg2.connect(url)
        opened.append(of_thread.connection)
    return of_thread.connection


def query(connection, text):
    with connection.cursor() as cursor:
        cursor.execute(text)

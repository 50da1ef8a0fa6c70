"""Threads over sqlite3: a connection for each job."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import trace

SERVER = ""
tracer = trace.get_tracer("soak")


def serve(url: str) -> None:
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(job, range(10_000)))


def job(number):
    with (
        tracer.start_as_current_span("job"),
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        connection,
    ):
        connection.execute("SELECT ?", (number,)).fetchone()

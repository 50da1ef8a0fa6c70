"""What the tests of PostgreSQL drivers have in common."""

from __future__ import annotations

import asyncio
import time

import servers

LEAKED = ("db.connection", "owner_finished")
PATIENCE = 20.0
"""Seconds after which something that a test waits for will never come."""
CROWDED = "crowded"


def of_server():
    """`host:port/database`, as the pools of the test server are named."""
    return servers.postgres().rpartition("@")[2]


async def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def own_metrics(telemetry, pool):
    """Newest values of a pool's metrics by their short names; of a histogram, how often it was recorded."""
    values = {}
    for name, points in telemetry.metrics().items():
        for point in points:
            if point.attributes.get("db.client.connection.pool.name") == pool:
                short = name.removeprefix("db.client.connection.")
                state = point.attributes.get("db.client.connection.state")
                values[f"{short} {state}" if state else short] = getattr(point, "value", None) or getattr(
                    point, "count", 0
                )
    return values


def note_of(error):
    (note,) = error.__notes__
    return note


def check_told(rig, telemetry, error, waiter, hoarder):
    """The exception, the waiter's span and the log say the same, and the span leads to the holder's."""
    (event,) = [event for event in waiter.events if event.name == "crawlo.pool.exhausted"]
    assert [link.context for link in waiter.links] == [hoarder.get_span_context()]
    rig.runtime.tick()
    (record,) = telemetry.events("crawlo.pool.exhausted")
    assert (record.trace_id, record.body) == (waiter.get_span_context().trace_id, note_of(error))
    assert event.attributes["crawlo.pool.holders"] == record.attributes["crawlo.pool.holders"]


def crowded_user():
    """Statements that make a user who may have one connection, and the URL by which it connects."""
    made = (f"drop role if exists {CROWDED}", f"create role {CROWDED} login password 's3cret' connection limit 1")
    return made, f"postgresql://{CROWDED}:s3cret@{of_server()}"

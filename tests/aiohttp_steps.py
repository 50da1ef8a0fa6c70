"""What the tests of aiohttp have in common: requests that are handled, and what they hold."""

from __future__ import annotations

import asyncio
import contextlib
import time

from opentelemetry import trace

from crawlo_otel_leaks.instrumentation._aiohttp_handles import ConnectionHandle

tracer = trace.get_tracer("tests")
LEAK = ("http.connection", "owner_finished")


def slots(rig):
    return [handle for handle in rig.held if isinstance(handle, ConnectionHandle)]


def released(rig):
    rig.runtime.tick()
    return [handle for handle in rig.recorder.released_handles if isinstance(handle, ConnectionHandle)]


async def in_a_request(work):
    """Do the work as a task of its own, under a span of its own, as a server handles a request."""

    async def handle():
        with tracer.start_as_current_span("request") as span:
            await work
        return span

    return await asyncio.create_task(handle())


async def until(condition, seconds=10.0):
    """Let the loop go on until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.001)


async def cancelled(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def keep(kept, session, path):
    kept.append(await session.get(path))


async def drop(session, path):
    await session.get(path)

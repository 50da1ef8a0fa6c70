"""What the tests of HTTP clients have in common: requests that are handled, and what they hold."""

from __future__ import annotations

import asyncio
import time

from opentelemetry import trace

tracer = trace.get_tracer("tests")
LEAK = ("http.connection", "owner_finished")
DROPPED = ("http.connection", "abandoned")


def slots(rig):
    return [handle for handle in rig.held if handle.kind == "http.connection"]


def sessions(rig):
    return [handle for handle in rig.held if handle.kind == "http.session"]


def released(rig, kind="http.connection"):
    rig.runtime.tick()
    return [handle for handle in rig.recorder.released_handles if handle.kind == kind]


def in_a_request(work, *args):
    """Do the work under a span of its own, as a server handles a request; return the span and the result."""
    with tracer.start_as_current_span("request") as span:
        return span, work(*args)


async def in_a_task(work, *args):
    """Do the work as a task of its own, under a span of its own; return the span and the result."""

    async def handle():
        with tracer.start_as_current_span("request") as span:
            return span, await work(*args)

    return await asyncio.create_task(handle())


def wait_for_buffers(rig):
    """Wait until nothing more comes in on what is held: the buffers on the way are full."""
    before, same = None, 0
    while same < 20:
        seen = [handle.progress().token for handle in slots(rig)]
        before, same = seen, same + 1 if seen == before else 0
        time.sleep(0.005)


def wait_until(condition, seconds=10.0):
    """Wait for another thread until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.001)


async def until(condition, seconds=10.0):
    """Let the loop go on until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.001)

"""What the tests of tasks have in common: loops of each kind, and tasks that stay."""

from __future__ import annotations

import asyncio
import contextlib

import uvloop
from opentelemetry import trace

from crawlo_otel_leaks.instrumentation.tasks import TaskHandle

tracer = trace.get_tracer("tests")
LEAK = ("task", "owner_finished")
LOOPS = {
    "asyncio": (asyncio.new_event_loop, False),
    "asyncio, debug": (asyncio.new_event_loop, True),
    "uvloop": (uvloop.new_event_loop, False),
    "uvloop, debug": (uvloop.new_event_loop, True),
}


def run(main, loop="asyncio"):
    """As asyncio.run does it: what is pending at the end is cancelled, and the loop is closed."""
    made, debug = LOOPS[loop]
    running = made()
    running.set_debug(debug)
    try:
        return running.run_until_complete(main)
    finally:
        running.run_until_complete(cancelled(asyncio.all_tasks(running)))
        running.close()


def pending(rig):
    """The handles of tasks, but for uvloop's of the whole program: its stacks do not show that the loop made it."""
    rig.runtime.tick()
    return [handle for handle in rig.held if isinstance(handle, TaskHandle) and not handle.name.endswith("main")]


async def stuck():
    await asyncio.get_running_loop().create_future()


async def in_a_request(work):
    """Do the work as a task of its own, under a span of its own, as a server handles a request."""

    async def handle():
        with tracer.start_as_current_span("request"):
            await work

    await asyncio.create_task(handle())


async def leave(kept, work=stuck, times=1):
    """Start tasks, and end without waiting for them."""
    for _ in range(times):
        kept.append(asyncio.create_task(work()))
    await asyncio.sleep(0)


async def cancelled(kept):
    for task in kept:
        task.cancel()
    for task in kept:
        with contextlib.suppress(asyncio.CancelledError):
            await task

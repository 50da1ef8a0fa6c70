"""A service that runs programs on asyncio's loop and on uvloop's, in debug mode and out of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import uvloop
from opentelemetry import trace

SERVER = ""
PIPE = asyncio.subprocess.PIPE
tracer = trace.get_tracer("soak")


def serve(url: str) -> None:
    for run, debug in itertools.product((asyncio.run, uvloop.run), (False, True)):
        run(work(), debug=debug)


async def work():
    for _ in range(65):
        await asyncio.gather(*(asyncio.create_task(request(number)) for number in range(4)))


async def request(number):
    with tracer.start_as_current_span("request"):
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await child.communicate(b"some") == (b"some", b"")
        child = await asyncio.wait_for(asyncio.create_subprocess_exec("true"), 60)
        assert await child.wait() == 0
        child = await asyncio.create_subprocess_shell("echo some", stdout=PIPE)
        async for line in child.stdout:
            assert line == b"some\n"
        await child.wait()
        with contextlib.suppress(FileNotFoundError):
            await asyncio.create_subprocess_exec("no such program", stdout=PIPE)
        child = await asyncio.create_subprocess_exec("sleep", "60", stdout=PIPE)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(child.communicate(), 0.001)
        child.kill()
        await child.wait()

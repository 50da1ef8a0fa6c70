"""httpx #3782: a task that is cancelled twice while it reads a stream leaves its connection to nobody."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
from aiohttp import web
from opentelemetry import trace

SERVER = ""
LEAKS = [("http.connection", "owner_finished", "consume")]


async def leaky(_url: str) -> None:
    await serve(cancels=2)


async def clean(_url: str) -> None:
    await serve(cancels=1)


async def serve(cancels):
    runner, url = await start()
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(3):
            with trace.get_tracer("corpus").start_as_current_span("job"):
                await stop_early(client, url, cancels)
        await asyncio.sleep(0.5)  # the client lives as long as the service
    await runner.cleanup()


async def stop_early(client, url, cancels):
    reading = asyncio.Event()
    task = asyncio.create_task(consume(client, url, reading))
    await reading.wait()
    await asyncio.sleep(0.01)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def consume(client, url, reading):
    async with client.stream("GET", url) as response:
        async for _ in response.aiter_bytes():
            reading.set()


async def start():
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(b"first")
            await asyncio.sleep(60)
        return response

    app = web.Application()
    app.router.add_get("/", endless)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"

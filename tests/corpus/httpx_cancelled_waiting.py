"""httpx #1461, httpcore #1093: cancelled while it waits, a request leaves a connection in the pool for ever."""

from __future__ import annotations

import asyncio

import httpx
from aiohttp import web
from opentelemetry import trace

SERVER = ""
LEAKS = [("http.connection", "owner_finished", "race")]


async def leaky(_url: str) -> None:
    await serve(cut_short=True)


async def clean(_url: str) -> None:
    await serve(cut_short=False)


async def serve(*, cut_short):
    runner, url = await start()
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1), trust_env=False) as client:
        with trace.get_tracer("corpus").start_as_current_span("job"):
            await race(client, url, cut_short=cut_short)
        await asyncio.sleep(0.5)  # the client lives as long as the service
    await runner.cleanup()


async def race(client, url, *, cut_short):
    tasks = [asyncio.create_task(client.get(url)) for _ in range(2)]
    await asyncio.sleep(0)
    if cut_short:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def start():
    async def hello(_request):
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"

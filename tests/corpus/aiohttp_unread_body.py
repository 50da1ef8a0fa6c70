"""aiohttp #5833: a response whose large body nobody reads keeps its connection, dropped or not."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web
from opentelemetry import trace

SERVER = ""
LEAKS = [("http.connection", "owner_finished", "status")]
LARGE = bytes(8 * 1024 * 1024)


async def leaky(_url: str) -> None:
    await crawl(status)


async def clean(_url: str) -> None:
    await crawl(status_released)


async def crawl(ask):
    runner, url = await serve()
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            with trace.get_tracer("corpus").start_as_current_span("job"):
                await ask(session, url)
        await asyncio.sleep(0.5)  # it crawls elsewhere; closing the session would give all back
    await runner.cleanup()


async def status(session, url):
    response = await session.get(url)
    return response.status


async def status_released(session, url):
    async with session.get(url) as response:
        return response.status


async def serve():
    async def large(_request):
        return web.Response(body=LARGE)

    app = web.Application()
    app.router.add_get("/", large)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"

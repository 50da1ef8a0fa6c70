"""A crawler over httpx: pages, streams left half read, redirects, timeouts, cancelled requests."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
from aiohttp import web
from opentelemetry import trace

SERVER = ""
tracer = trace.get_tracer("soak")
JOBS = 3_500
LARGE = bytes(256 * 1024)
arrived: dict[str, asyncio.Event] = {}
"""What is set when the server has got a request that is going to be cancelled."""


async def serve(_url: str) -> None:
    runner, url = await start()
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False) as client:
        numbers = iter(range(JOBS))
        await asyncio.gather(*(worker(client, numbers) for _ in range(20)))
    await runner.cleanup()


async def worker(client, numbers):
    for number in numbers:
        with tracer.start_as_current_span("job"):
            await job(client, number)


async def job(client, number):
    await (await client.get("/redirect" if number % 7 == 0 else "/small", follow_redirects=True)).aread()
    async with client.stream("GET", "/large") as response:
        async for _ in response.aiter_bytes(1024):
            if number % 3:
                break
    if number % 20 == 0:
        # Of the answer alone: cut off while it waits for a connection, httpcore may lose one (httpcore #1093).
        with contextlib.suppress(httpx.TimeoutException):
            await client.get("/slow", timeout=httpx.Timeout(None, read=0.01))
    if number % 50 == 0:
        arrived[str(number)] = asyncio.Event()
        task = asyncio.create_task(client.get("/slow", params={"number": number}))
        await arrived[str(number)].wait()
        task.cancel()
        await asyncio.wait([task])
    if number % 500 == 0:
        async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as own:
            await own.get("/small")


async def start():
    async def small(_request):
        return web.Response(text="small")

    async def large(_request):
        return web.Response(body=LARGE)

    async def slow(request):
        if "number" in request.query:
            arrived[request.query["number"]].set()
        await asyncio.sleep(1)
        return web.Response(text="slow")

    async def redirect(_request):
        raise web.HTTPFound("/small")

    app = web.Application()
    app.add_routes([web.get(f"/{page.__name__}", page) for page in (small, large, slow, redirect)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

"""redis-py #4121, mended there by #4123 and still in valkey-py: whose reset is cancelled never gives back."""

from __future__ import annotations

import asyncio

import valkey.asyncio
from opentelemetry import trace

SERVER = "valkey"
LEAKS = [("redis.connection", "owner_finished", "look")]
kept = []


async def leaky(url: str) -> None:
    await cancelled_while_leaving(url, look)


async def clean(url: str) -> None:
    await cancelled_while_leaving(url, look_shielded)


async def look(client):
    async with client.pipeline() as pipe:
        await pipe.watch("stock")
        await busy_server(client)


async def look_shielded(client):
    pipe = client.pipeline()
    try:
        await pipe.watch("stock")
        await busy_server(client)
    finally:
        await asyncio.shield(pipe.reset())


async def busy_server(client):
    await client.execute_command("CLIENT PAUSE", 200)


async def cancelled_while_leaving(url, work):
    client = valkey.asyncio.Valkey.from_url(url.replace("redis:", "valkey:"))
    kept.append(client)
    await client.set("stock", 3)
    task = asyncio.create_task(request(work, client))
    await asyncio.sleep(0.1)
    task.cancel()  # it waits for the answer to its UNWATCH
    await asyncio.gather(task, return_exceptions=True)


async def request(work, client):
    with trace.get_tracer("corpus").start_as_current_span("job"):
        await work(client)

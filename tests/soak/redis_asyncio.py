"""An asyncio service over redis-py: gathered commands, blocking pops that are cancelled, a listener for life."""

from __future__ import annotations

import asyncio
import contextlib

import redis.asyncio as redis
from opentelemetry import trace

SERVER = "valkey"
tracer = trace.get_tracer("soak")


async def serve(url: str) -> None:
    pool = redis.BlockingConnectionPool.from_url(url, max_connections=12, timeout=20)
    async with redis.Redis(connection_pool=pool) as client:
        listener = asyncio.create_task(listen(client))
        for start in range(0, 2_500, 50):
            await asyncio.gather(*(request(client, number) for number in range(start, start + 50)))
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    await pool.aclose()


async def request(client, number):
    with tracer.start_as_current_span("request"):
        await client.set("key", number)
        async with client.pipeline(transaction=True) as pipe:
            await pipe.incr("counter").get("key").execute()
        await client.get("key")
        if number % 25 == 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.blpop("nothing", 5), 0.01)


async def listen(client):
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        async for _ in pubsub.listen():
            pass

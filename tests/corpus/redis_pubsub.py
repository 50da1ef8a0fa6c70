"""redis-py: a subscription holds a connection, which nobody gives back who only stops to listen."""

from __future__ import annotations

import redis.asyncio
from opentelemetry import trace

SERVER = "valkey"
LEAKS = [("redis.connection", "owner_finished", "subscribe")]
kept = []


async def leaky(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    kept.append(client)
    for _ in range(2):
        with trace.get_tracer("corpus").start_as_current_span("job"):
            kept.append(await subscribe(client))


async def clean(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    for _ in range(2):
        with trace.get_tracer("corpus").start_as_current_span("job"):
            await (await subscribe(client)).aclose()
    await client.aclose()


async def subscribe(client):
    pubsub = client.pubsub()
    await pubsub.subscribe("corpus")
    await client.publish("corpus", "first")
    await first_message(pubsub)
    return pubsub


async def first_message(pubsub):
    async for message in pubsub.listen():
        if message["type"] == "message":
            return

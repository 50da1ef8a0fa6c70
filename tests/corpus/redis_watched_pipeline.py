"""redis-py: a pipeline that has watched a key keeps its connection until somebody resets it."""

from __future__ import annotations

import redis
from opentelemetry import trace

SERVER = "valkey"
LEAKS = [("redis.connection", "owner_finished", "reserve")]
kept = []


def leaky(url: str) -> None:
    client = redis.Redis.from_url(url)
    client.set("stock", 3)
    kept.append(client)
    with trace.get_tracer("corpus").start_as_current_span("job"):
        kept.append(reserve(client))


def clean(url: str) -> None:
    client = redis.Redis.from_url(url)
    client.set("stock", 3)
    with trace.get_tracer("corpus").start_as_current_span("job"):
        reserve(client).reset()


def reserve(client):
    pipe = client.pipeline()
    pipe.watch("stock")
    if int(pipe.get("stock")) > 5:
        pipe.multi()
        pipe.decr("stock")
        pipe.execute()
    return pipe

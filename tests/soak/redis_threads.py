"""A threaded worker over redis-py: commands, pipelines, transactions, locks, pub/sub, failures."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import redis
from opentelemetry import trace

SERVER = "valkey"
tracer = trace.get_tracer("soak")


def serve(url: str) -> None:
    client = redis.Redis.from_url(url)
    with ThreadPoolExecutor(16) as executor:
        list(executor.map(lambda number: job(client, number), range(2_500)))
    client.close()


def job(client, number):
    with tracer.start_as_current_span("job"):
        client.set("key", number)
        with client.pipeline() as pipe:
            pipe.watch("counter")
            pipe.multi()
            pipe.incr("counter")
            with contextlib.suppress(redis.WatchError):
                pipe.execute()
        with contextlib.suppress(redis.ResponseError):
            client.execute_command("NO SUCH COMMAND")
        if number % 50 == 0:
            with client.pubsub() as pubsub:
                pubsub.subscribe("news")
                pubsub.get_message(timeout=0.001)

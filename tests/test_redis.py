"""redis-py and valkey-py against a real server, sync and asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import GRACE, SCAN
from opentelemetry import trace
from redis_clients import LEAKED

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.settings import Settings

pytest_plugins = ["redis_clients"]


def test_commands_take_and_give_back(rig, client):
    for number in range(100):
        client.set("key", number)
        assert client.get("key") == str(number).encode()
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []
    assert len(rig.recorder.released_handles) >= 200


def test_a_watched_pipeline_that_is_never_reset_is_a_leak(rig, client, tracer):
    def work():
        pipe = client.pipeline()
        pipe.watch("key")
        return pipe

    with tracer.start_as_current_span("job") as span:
        kept = work()
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.kind, leak.reason.value) == LEAKED
    assert leak.where.text == 'pipe.watch("key")'
    assert leak.owner.span == span.get_span_context()
    kept.reset()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1


def test_a_pipeline_in_a_with_block_is_none(rig, client, tracer):
    with tracer.start_as_current_span("job"), client.pipeline() as pipe:
        pipe.watch("key")
        pipe.multi()
        pipe.set("key", 1)
        pipe.execute()
    rig.settle()
    assert rig.verdicts == []


def test_a_pubsub_that_is_never_closed_is_a_leak_unless_it_is_adopted(rig, client, tracer):
    def listen(*, keep):
        with tracer.start_as_current_span("job"):
            pubsub = client.pubsub()
            pubsub.subscribe("news")
            if keep:
                adopt(pubsub.connection)
            return pubsub

    kept = [listen(keep=False), listen(keep=True)]
    rig.settle()
    assert rig.verdicts == [LEAKED]
    for pubsub in kept:
        pubsub.close()
    rig.pass_time(1)
    assert rig.held == []


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("redis.connection",))

    def test_a_pubsub_can_be_exempted_by_a_setting(self, rig, client, tracer):
        with tracer.start_as_current_span("job"):
            pubsub = client.pubsub()
            pubsub.subscribe("news")
        rig.settle()
        assert rig.verdicts == []
        pubsub.close()


def test_an_exhausted_pool_tells_the_waiter_who_holds(rig, package, where, tracer):
    pool = package.module.ConnectionPool(max_connections=2, **where)
    client = package.client(connection_pool=pool)

    def hoard():
        return client.pubsub(), client.pubsub()

    with tracer.start_as_current_span("hoarder") as hoarder:
        kept = hoard()
        for pubsub in kept:
            pubsub.subscribe("news")
    rig.clock.advance(312)
    with (
        tracer.start_as_current_span("waiter") as waiter,
        pytest.raises(package.module.exceptions.ConnectionError, match="Too many connections") as caught,
    ):
        client.get("key")
    (note,) = caught.value.__notes__
    host, port = where.values()
    assert note.startswith(f"2 of 2 connections of pool {host}:{port}/0 held: 2 since up to 312 s by ")
    assert "test_redis.py:" in note
    assert "(owner finished)" in note
    (event,) = [event for event in waiter.events if event.name == "crawlo.pool.exhausted"]
    assert event.attributes["crawlo.pool.held"] == 2
    assert [link.context for link in waiter.links] == [hoarder.get_span_context()]
    rig.runtime.tick()
    for pubsub in kept:
        pubsub.close()
    pool.disconnect()


def test_the_exhaustion_is_a_log_event_in_the_waiters_context(rig, package, where, tracer, telemetry):
    pool = package.module.ConnectionPool(max_connections=1, **where)
    client = package.client(connection_pool=pool)
    kept = client.pubsub()
    kept.subscribe("news")
    with tracer.start_as_current_span("waiter") as waiter, pytest.raises(package.module.exceptions.ConnectionError):
        client.get("key")
    rig.runtime.tick()
    (event,) = telemetry.events("crawlo.pool.exhausted")
    assert event.trace_id == waiter.get_span_context().trace_id
    assert event.attributes["db.client.connection.pool.name"].endswith("/0")
    kept.close()
    pool.disconnect()


def test_a_blocking_pool_tells_who_waits_for_longer_than_the_setting(rig, package, where, tracer, telemetry):
    pool = package.module.BlockingConnectionPool(max_connections=1, timeout=20, **where)
    client = package.client(connection_pool=pool)
    kept = client.pubsub()
    kept.subscribe("news")
    got = []
    waiter = threading.Thread(target=lambda: got.append(client.get("nothing")))
    waiter.start()
    while not any(one.waiting for one in rig.runtime.pools):
        pass
    rig.pass_time(6)
    assert len(telemetry.events("crawlo.pool.exhausted")) == 1
    rig.pass_time(6)
    assert len(telemetry.events("crawlo.pool.exhausted")) == 1
    kept.close()
    waiter.join(20)
    assert got == [None]
    rig.runtime.tick()
    assert [one.timeouts for one in rig.runtime.pools] == [0]
    pool.disconnect()


def test_pool_metrics_have_semantic_names(rig, package, where, telemetry):
    pool = package.module.ConnectionPool(max_connections=7, **where)
    client = package.client(connection_pool=pool)
    kept = client.pubsub()
    kept.subscribe("news")
    client.get("key")
    rig.pass_time(1)
    points = telemetry.metrics()
    name = f"{where['host']}:{where['port']}/0"
    counts = {
        point.attributes["db.client.connection.state"]: point.value for point in points["db.client.connection.count"]
    }
    assert counts == {"used": 1, "idle": 1}
    assert [point.value for point in points["db.client.connection.max"]] == [7]
    assert points["db.client.connection.max"][0].attributes == {"db.client.connection.pool.name": name}
    assert [point.value for point in points["db.client.connection.pending_requests"]] == [0]
    assert points["db.client.connection.wait_time"][0].count >= 2
    assert points["db.client.connection.use_time"][0].count >= 1
    kept.close()
    pool.disconnect()


def test_no_password_is_told(rig, package, where):
    pool = package.module.ConnectionPool(password="s3cret", username="me", **where)
    client = package.client(connection_pool=pool)
    with pytest.raises(package.module.exceptions.RedisError if package.name == "redis" else Exception):
        client.get("key")
    assert all("s3cret" not in one.name for one in rig.runtime.pools)
    pool.disconnect()


def test_async_commands_take_and_give_back(rig, package, where):
    async def main():
        client = package.async_client(where)
        await asyncio.gather(*(client.set(f"key{number}", number) for number in range(50)))
        await client.aclose()

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []


def test_an_async_watched_pipeline_that_is_never_reset_is_a_leak(rig, package, where, tracer):
    async def main():
        client = package.async_client(where)

        async def job():
            with tracer.start_as_current_span("job"):
                pipe = client.pipeline()
                await pipe.watch("key")
                return pipe

        pipe = await asyncio.create_task(job())
        rig.settle()
        assert rig.verdicts == [LEAKED]
        await pipe.reset()
        await client.aclose()

    asyncio.run(main())
    assert rig.recorder.opened_leaks[0].where.text == 'await pipe.watch("key")'


def test_an_async_release_that_is_cancelled_leaves_the_connection_out(rig, package, where, tracer):
    """redis-py #4123: a release waits for the pool's lock, and cancelled there it has released nothing."""

    async def main():
        client = package.async_client(where)
        pool = client.connection_pool
        if "_lock" not in type(pool).release.__code__.co_names:
            pytest.skip("the release waits for nothing")

        async def take():
            with tracer.start_as_current_span("job"):
                return await pool.get_connection("_")

        connection = await asyncio.create_task(take())
        async with pool._lock:
            task = asyncio.create_task(pool.release(connection))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        still_out = connection in pool._in_use_connections
        rig.settle()
        assert still_out
        assert rig.verdicts == [LEAKED]
        await pool.release(connection)
        await client.aclose()

    asyncio.run(main())
    rig.pass_time(1)
    assert rig.held == []


def test_an_async_listener_waiting_for_a_message_is_in_use(rig, package, where, tracer):
    async def main():
        client = package.async_client(where)
        pubsub = client.pubsub()

        async def subscribe():
            with tracer.start_as_current_span("job"):
                await pubsub.subscribe("news")

        await asyncio.create_task(subscribe())
        listener = asyncio.create_task(listen(pubsub))
        await asyncio.sleep(0.05)
        rig.settle()
        assert rig.verdicts in ([], [("redis.connection", "slow")])
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        await pubsub.aclose()
        await client.aclose()

    asyncio.run(main())


async def listen(pubsub):
    async for _ in pubsub.listen():
        pass


def test_results_and_errors_are_the_librarys_own(package, client):
    with pytest.raises(package.module.exceptions.ResponseError, match="wrong number of arguments") as caught:
        client.execute_command("GET")
    assert getattr(caught.value, "__notes__", []) == []
    with pytest.raises(TypeError):
        client.connection_pool.release()
    assert trace.get_current_span() is trace.INVALID_SPAN

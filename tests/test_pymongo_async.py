"""PyMongo's asyncio client, and motor, against a real server."""

from __future__ import annotations

import asyncio
import importlib

import pymongo
import pytest
from mongo_steps import EXHAUST, LEAKED, TAIL, fill, more, server, url
from pymongo.errors import ConnectionFailure

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.pymongo import PyMongoInstrumentor

CLIENTS = {"pymongo": "AsyncMongoClient", "motor.motor_asyncio": "AsyncIOMotorClient"}


@pytest.fixture(params=CLIENTS)
def connect(request, rig):
    """Return a function that makes a client of PyMongo's own or of motor's."""
    fill()
    module = pytest.importorskip(request.param)
    if not hasattr(module, CLIENTS[request.param]):
        pytest.skip(f"PyMongo {pymongo.version} has no client for asyncio")
    PyMongoInstrumentor().instrument()
    kind = getattr(module, CLIENTS[request.param])
    yield lambda **options: kind(url(), **{"maxPoolSize": 2, "waitQueueTimeoutMS": 50, "retryReads": False, **options})
    PyMongoInstrumentor().uninstrument()


async def close(client):
    closing = client.close()
    if closing is not None:
        await closing


async def read_one(client):
    cursor = client.tests.numbers.find({}, **EXHAUST)
    assert (await cursor.next())["number"] == 0
    return cursor


async def job(client, tracer):
    with tracer.start_as_current_span("job") as span:
        return await read_one(client), span


def test_operations_take_and_give_back(rig, connect):
    async def main():
        client = connect(waitQueueTimeoutMS=10_000)
        await asyncio.gather(*(client.tests.numbers.find_one({"number": number}) for number in range(100)))
        cursor = await read_one(client)
        assert len(await cursor.to_list(None)) == 999
        assert rig.held == []
        await close(client)

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []
    assert len(rig.recorder.released_handles) > 100


def test_an_exhaust_cursor_that_is_never_finished_is_a_leak_of_whoever_asked(rig, connect, tracer):
    async def main():
        client = connect()
        cursor, span = await asyncio.create_task(job(client, tracer))
        (handle,) = rig.held
        assert (handle.thread.name, handle.task_name is None) == ("MainThread", False)
        rig.settle()
        (leak,) = rig.recorder.opened_leaks
        assert (leak.kind, leak.reason.value) == LEAKED
        assert leak.where.text == 'assert (await cursor.next())["number"] == 0'
        assert leak.owner.span == span.get_span_context()
        assert leak.name == server()
        await cursor.close()
        await close(client)

    asyncio.run(main())
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1
    assert rig.held == []


def test_one_whose_task_goes_on_is_none(rig, connect):
    async def main():
        client = connect()
        cursor = await read_one(client)
        rig.settle()
        assert rig.verdicts == []
        await cursor.close()
        await close(client)

    asyncio.run(main())


def test_one_that_is_adopted_is_none(rig, connect, tracer):
    async def main():
        client = connect()
        cursor, _ = await asyncio.create_task(job(client, tracer))
        adopt(cursor)
        rig.settle()
        assert rig.verdicts == []
        await cursor.close()
        await close(client)

    asyncio.run(main())


def test_who_waits_in_vain_is_told_who_holds(rig, connect, tracer):
    async def main():
        client = connect()
        kept = [await asyncio.create_task(job(client, tracer)) for _ in range(2)]
        rig.clock.advance(9)
        with (
            tracer.start_as_current_span("waiter") as waiter,
            pytest.raises(ConnectionFailure, match="Timed out while checking out a connection") as caught,
        ):
            await client.tests.numbers.find_one({})
        (note,) = caught.value.__notes__
        assert note.startswith(f"2 of 2 connections of pool {server()} held: 2 since up to 9 s by ")
        assert [event.name for event in waiter.events][:1] == ["crawlo.pool.exhausted"]
        assert [link.context for link in waiter.links] == [kept[0][1].get_span_context()]
        for cursor, _ in kept:
            await cursor.close()
        await close(client)

    asyncio.run(main())
    assert rig.held == []


def test_a_wait_that_is_cancelled_is_over(rig, connect):
    async def main():
        client = connect(maxPoolSize=1, waitQueueTimeoutMS=300)
        cursor = await read_one(client)
        waiter = asyncio.ensure_future(client.tests.command("ping"))
        await asyncio.sleep(0.05)
        (known,) = rig.runtime.pools
        assert len(known.waiting) == 1
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        # Motor's helper thread cannot be cancelled, and waits on.
        for _ in range(100):
            await asyncio.sleep(0.01 if known.waiting else 0)
        assert len(known.waiting) == 0
        assert len(known.held) == 1
        await cursor.close()
        await close(client)

    asyncio.run(main())
    assert rig.held == []


def test_a_long_operation_is_slow_and_cancelled_it_holds_nothing(rig, connect):
    async def main():
        client = connect()
        command = more(await client.tests.command(TAIL))
        await client.tests.command(command)
        waiting = asyncio.ensure_future(client.tests.command(command))
        await asyncio.sleep(0.1)
        rig.pass_time(100, steps=50)
        assert rig.verdicts == [("db.connection", "slow")]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await close(client)

    asyncio.run(main())
    importlib.import_module("time").sleep(0.7)  # until motor's helper thread has its answer
    assert rig.held == []


def test_pool_metrics_are_there(rig, connect, telemetry):
    async def main():
        client = connect()
        cursor = await read_one(client)
        rig.pass_time(1)
        points = telemetry.metrics()
        assert [point.value for point in points["db.client.connection.max"]] == [2]
        counts = {
            point.attributes["db.client.connection.state"]: point.value
            for point in points["db.client.connection.count"]
        }
        assert counts == {"used": 1, "idle": 0}
        assert [len(pool.held) for pool in rig.runtime.pools] == [1]
        await cursor.close()
        await close(client)

    asyncio.run(main())

"""aiomysql and asyncmy against a real server: pools."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from conftest import GRACE, SCAN
from mysql_steps import LEAKED, name, one, package, where

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.settings import Settings

__all__ = ["package"]


def test_what_is_given_back_is_no_leak(rig, package):
    async def work(pool):
        async with pool.acquire() as connection:
            assert await one(connection) == (1,)

    async def main():
        async with package.create_pool(maxsize=3, **where()) as pool:
            await asyncio.gather(*(work(pool) for _ in range(100)))
            connection = await pool.acquire()
            await pool.release(connection)

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []
    assert len(rig.recorder.released_handles) == 101


def test_a_connection_that_is_not_released_is_a_leak_until_it_is(rig, package, tracer):
    async def job(pool):
        with tracer.start_as_current_span("job") as span:
            connection = await pool.acquire()
            await one(connection)
            return connection, span

    async def main():
        async with package.create_pool(maxsize=3, **where()) as pool:
            connection, span = await asyncio.create_task(job(pool))
            rig.settle()
            (leak,) = rig.recorder.opened_leaks
            assert (leak.kind, leak.reason.value) == LEAKED
            assert leak.where.text == "connection = await pool.acquire()"
            assert leak.owner.span == span.get_span_context()
            assert leak.name == name()
            await asyncio.create_task(give_back(pool, connection))
            rig.pass_time(1)
            assert len(rig.recorder.resolved_leaks) == 1

    async def give_back(pool, connection):
        await pool.release(connection)

    asyncio.run(main())
    assert rig.held == []


@pytest.mark.parametrize("how", ["wait_for", "create_task", "gather"])
def test_whoever_asked_is_the_owner_and_not_the_task_that_waits_for_it(rig, package, tracer, how):
    async def main():
        async with package.create_pool(maxsize=3, **where()) as pool:
            if how == "wait_for":
                connection = await asyncio.wait_for(pool.acquire(), 10)
            elif how == "create_task":
                connection = await asyncio.create_task(pool.acquire())
            else:
                (connection,) = await asyncio.gather(pool.acquire())
            rig.settle()
            assert rig.verdicts == []
            (handle,) = rig.held
            assert handle.task() is asyncio.current_task()
            assert handle.site.frames[0][0].co_name == "main"
            pool.release(connection)

    asyncio.run(main())
    assert rig.held == []


def test_a_wait_that_is_cancelled_is_over(rig, package):
    async def main():
        async with package.create_pool(maxsize=1, **where()) as pool:
            async with pool.acquire():
                waiter = asyncio.create_task(take(pool))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                (known,) = rig.runtime.pools
                assert len(known.waiting) == 1
                waiter.cancel()
                with pytest.raises(asyncio.CancelledError) as caught:
                    await waiter
            assert (len(known.waiting), len(known.held), known.timeouts) == (0, 0, 0)
            assert getattr(caught.value, "__notes__", []) == []

    async def take(pool):
        return await pool.acquire()

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_who_is_cut_off_after_a_long_wait_is_told_who_holds(rig, package, tracer, telemetry):
    async def hoard(pool):
        with tracer.start_as_current_span("hoarder") as hoarder:
            return await pool.acquire(), hoarder

    async def main():
        async with package.create_pool(maxsize=1, **where()) as pool:
            connection, hoarder = await asyncio.create_task(hoard(pool))
            with tracer.start_as_current_span("waiter") as waiter:
                task = asyncio.create_task(asyncio.wait_for(pool.acquire(), 0.2))
                await asyncio.sleep(0.1)
                rig.clock.advance(6)
                with pytest.raises(asyncio.TimeoutError):
                    await task
            rig.runtime.tick()
            (event,) = telemetry.events("crawlo.pool.exhausted")
            assert event.body.startswith(f"1 of 1 connections of pool {name()} held: 1 since up to 6 s by ")
            assert "hoard (owner finished)" in event.body
            assert [found.name for found in waiter.events][:1] == ["crawlo.pool.exhausted"]
            assert [link.context for link in waiter.links] == [hoarder.get_span_context()]
            assert [known.timeouts for known in rig.runtime.pools] == [1]
            await pool.release(connection)

    asyncio.run(main())


def test_who_waits_long_is_told_while_waiting(rig, package, telemetry):
    async def main():
        async with package.create_pool(maxsize=1, **where()) as pool:
            connection = await pool.acquire()
            waiter = asyncio.create_task(take(pool))
            await asyncio.sleep(0.01)
            rig.pass_time(6)
            assert len(telemetry.events("crawlo.pool.exhausted")) == 1
            pool.release(connection)
            pool.release(await waiter)

    async def take(pool):
        return await pool.acquire()

    asyncio.run(main())
    assert rig.held == []


def test_a_release_that_is_cancelled_has_released(rig, package):
    async def main():
        async with package.create_pool(maxsize=1, **where()) as pool:
            connection = await pool.acquire()

            async def give_back():
                await pool.release(connection)

            task = asyncio.create_task(give_back())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert pool.freesize == 1
            assert rig.held == []

    asyncio.run(main())


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_that_ends_with_connections_out(rig, package, end):
    async def main():
        pool = await package.create_pool(maxsize=2, **where())
        connection = await pool.acquire()
        getattr(pool, end)()
        assert len(rig.held) == (1 if end == "close" else 0)
        pool.release(connection)
        await pool.wait_closed()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_pool_that_is_dropped_with_connections_out_abandons_them(rig, package):
    async def main():
        pool = await package.create_pool(**where())
        (await pool.acquire()).close()

    asyncio.run(main())
    importlib.import_module("gc").collect()
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]


def test_a_long_query_is_slow(rig, package, tracer):
    async def main():
        async with package.create_pool(**where()) as pool:
            connection = await get(pool)
            query = asyncio.create_task(sleep(connection))
            await asyncio.sleep(0.1)
            rig.pass_time(100, steps=50)
            assert rig.verdicts == [("db.connection", "slow")]
            await query
            pool.release(connection)

    async def get(pool):
        return await pool.acquire()

    async def sleep(connection):
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT SLEEP(0.6)")

    asyncio.run(main())


def test_use_is_seen(rig, package):
    async def main():
        async with package.create_pool(**where()) as pool:
            connection = await get(pool)
            for _ in range(10):
                rig.pass_time(20, steps=10)
                await one(connection)
            assert {reason for _, reason in rig.verdicts} <= {"slow"}
            rig.pass_time(100, steps=50)
            assert rig.verdicts[-1] == ("db.connection", "held_too_long")
            pool.release(connection)

    async def get(pool):
        return await pool.acquire()

    asyncio.run(main())


def test_one_that_is_adopted_is_none(rig, package, tracer):
    async def main():
        async with package.create_pool(**where()) as pool:
            connection = await asyncio.create_task(keep(pool))
            rig.settle()
            assert rig.verdicts == []
            pool.release(connection)

    async def keep(pool):
        with tracer.start_as_current_span("job"):
            connection = await pool.acquire()
            adopt(connection)
            return connection

    asyncio.run(main())


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",))

    def test_kept_ones_can_be_exempted_by_a_setting(self, rig, package, tracer):
        async def main():
            async with package.create_pool(**where()) as pool:
                with tracer.start_as_current_span("job"):
                    connection = await pool.acquire()
                rig.settle()
                assert rig.verdicts == []
                pool.release(connection)

        asyncio.run(main())


def test_pool_metrics_have_semantic_names(rig, package, telemetry):
    async def main():
        async with package.create_pool(minsize=2, maxsize=7, **where()) as pool, pool.acquire():
            rig.pass_time(1)
            return telemetry.metrics()

    points = asyncio.run(main())
    counts = {
        point.attributes["db.client.connection.state"]: point.value for point in points["db.client.connection.count"]
    }
    assert counts == {"used": 1, "idle": 1}
    for metric, value in {"max": 7, "idle.max": 7, "idle.min": 2, "pending_requests": 0}.items():
        (point,) = points[f"db.client.connection.{metric}"]
        assert (point.value, point.attributes) == (value, {"db.client.connection.pool.name": name()})
    assert points["db.client.connection.create_time"][-1].count >= 2
    assert points["db.client.connection.wait_time"][-1].count >= 1

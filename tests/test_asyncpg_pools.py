"""asyncpg: waiting in vain, metrics, and life beside other instrumentations."""

from __future__ import annotations

import asyncio
import contextlib
import weakref

import asyncpg
import pytest
import servers
from garbage import collect
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from postgres_steps import LEAKED, check_told, note_of, of_server, own_metrics, until

from crawlo_otel_leaks.instrumentation.asyncpg import AsyncpgInstrumentor


@pytest.fixture
def instrumentor(rig):
    made = AsyncpgInstrumentor()
    yield made
    made.uninstrument()


@pytest.fixture
def watched(rig, instrumentor):
    instrumentor.instrument()
    rig.runtime.tick()


@contextlib.asynccontextmanager
async def a_pool(**options):
    pool = await asyncpg.create_pool(servers.postgres(), **{"min_size": 1, "max_size": 2, **options})
    try:
        yield pool
    finally:
        pool.terminate()


@pytest.mark.usefixtures("watched")
def test_who_waits_in_vain_is_told_who_holds(rig, tracer, telemetry):
    async def hoard(pool):
        return [await pool.acquire() for _ in range(2)]

    async def main():
        before = own_metrics(telemetry, of_server()).get("timeouts", 0)
        async with a_pool() as pool:
            with tracer.start_as_current_span("hoarder") as hoarder:
                kept = await hoard(pool)
            rig.clock.advance(312)
            with (
                tracer.start_as_current_span("waiter") as waiter,
                pytest.raises(asyncio.TimeoutError) as caught,
            ):
                await pool.acquire(timeout=0.05)
            assert str(caught.value) == ""
            assert note_of(caught.value).startswith(
                f"2 of 2 connections of pool {of_server()} held: 2 since up to 312 s by test_asyncpg_pools.py:"
            )
            check_told(rig, telemetry, caught.value, waiter, hoarder)
            assert own_metrics(telemetry, of_server())["timeouts"] == before + 1
            for connection in kept:
                await pool.release(connection)

    asyncio.run(main())


@pytest.mark.usefixtures("watched")
def test_a_timeout_that_is_not_for_want_of_a_connection_gets_no_note(rig):
    async def slow(connection):
        await asyncio.sleep(1)

    async def main():
        async with a_pool(setup=slow) as pool:
            with pytest.raises(asyncio.TimeoutError) as caught:
                await pool.acquire(timeout=0.01)
            assert getattr(caught.value, "__notes__", []) == []
            pool.terminate()
            with pytest.raises(asyncpg.InterfaceError, match="pool is closed") as caught:
                await pool.acquire()
            assert getattr(caught.value, "__notes__", []) == []
        with pytest.raises(asyncpg.PostgresError) as caught:
            await asyncpg.connect(servers.postgres(), user="nobody", password="wrong")
        assert getattr(caught.value, "__notes__", []) == []
        assert len(rig.runtime.tracker.exhausted) == 0

    asyncio.run(main())


@pytest.mark.usefixtures("watched")
def test_a_pool_that_is_not_initialized_says_so_itself(rig):
    async def main():
        pool = asyncpg.create_pool(servers.postgres())
        with pytest.raises(asyncpg.InterfaceError, match="not initialized"):
            await pool.acquire()

    asyncio.run(main())
    assert list(rig.runtime.pools) == []


@pytest.mark.usefixtures("watched")
def test_who_waits_for_longer_than_the_setting_is_told_once(rig, telemetry):
    async def main():
        async with a_pool(max_size=1) as pool:
            kept = await pool.acquire()
            waiter = asyncio.create_task(pool.fetchval("select 1"))
            await asyncio.sleep(0)
            rig.pass_time(12, steps=6)
            assert len(telemetry.events("crawlo.pool.exhausted")) == 1
            assert own_metrics(telemetry, of_server())["pending_requests"] == 1
            await pool.release(kept)
            assert await waiter == 1

    asyncio.run(main())


@pytest.mark.usefixtures("watched")
def test_metrics_have_semantic_names(rig, telemetry):
    async def main():
        before = own_metrics(telemetry, of_server())
        async with a_pool(min_size=3, max_size=7) as pool:
            kept = await pool.acquire()
            await pool.fetchval("select 1")
            rig.pass_time(1)
            after = own_metrics(telemetry, of_server())
            sizes = {name: value for name, value in after.items() if not name.endswith(("_time", "timeouts"))}
            assert sizes == {
                "count idle": 2,
                "count used": 1,
                "max": 7,
                "idle.max": 7,
                "idle.min": 3,
                "pending_requests": 0,
            }
            more = {name: after[name] - before.get(name, 0) for name in ("create_time", "wait_time", "use_time")}
            assert more == {"create_time": 3, "wait_time": 2, "use_time": 1}
            await pool.release(kept)

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(asyncpg.Connection, "_pool_holder"), reason="before 0.32, its callbacks keep a pool")
@pytest.mark.usefixtures("watched")
@pytest.mark.filterwarnings("ignore:unclosed connection:ResourceWarning")
@pytest.mark.parametrize("terminated", [True, False])
def test_a_pool_that_is_dropped_is_not_kept_alive(rig, terminated):
    async def main():
        options = {"min_size": 0, "max_size": 1, "max_inactive_connection_lifetime": 0}  # its timer would keep it
        pool = await asyncpg.create_pool(servers.postgres(), **options)
        await pool.fetchval("select 1")
        queue = weakref.ref(pool._queue)
        if terminated:
            pool.terminate()
        del pool
        await asyncio.sleep(0.05)
        collect()
        assert queue() is None
        assert list(rig.runtime.pools) == []

    asyncio.run(main())


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("ours_leaves_first", [True, False])
def test_beside_contribs_instrumentation(rig, instrumentor, telemetry, ours_first, ours_leaves_first):
    ours, theirs = instrumentor, AsyncPGInstrumentor()
    for one in (ours, theirs) if ours_first else (theirs, ours):
        one.instrument()

    async def main(spans):
        async with a_pool(max_size=1) as pool:
            kept = await asyncio.create_task(job(pool))
            rig.settle()
            assert rig.verdicts == ([LEAKED] if spans else [])
            await pool.release(kept)

    asyncio.run(main(spans=True))
    assert [span.name for span in telemetry.spans("select")] == ["select"]
    for one in (ours, theirs) if ours_leaves_first else (theirs, ours):
        one.uninstrument()
    rig.recorder.opened_leaks.clear()
    asyncio.run(main(spans=False))
    assert rig.held == []
    assert len(telemetry.spans("select")) == 1


async def job(pool):
    connection = await pool.acquire()
    assert await connection.fetchval("select 1") == 1
    return connection


def test_uninstrumented_the_library_is_as_before(instrumentor):
    def names():
        pool, connection = vars(asyncpg.pool.Pool), vars(asyncpg.Connection)
        return [pool["_acquire"], pool["acquire"], connection["_cleanup"], connection["__del__"], asyncpg.connect]

    before = names()
    instrumentor.instrument()
    assert all(one is not other for one, other in zip(before, names(), strict=True))
    instrumentor.uninstrument()
    assert all(one is other for one, other in zip(before, names(), strict=True))


@pytest.mark.usefixtures("watched")
def test_what_is_held_across_uninstrument_is_forgotten(rig, instrumentor):
    async def main():
        async with a_pool() as pool:
            kept = await pool.acquire()
            waiter = asyncio.ensure_future(pool.acquire())
            await until(lambda: len(rig.held) == 2)
            instrumentor.uninstrument()
            await pool.release(kept)
            await pool.release(await waiter)

    asyncio.run(main())
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])

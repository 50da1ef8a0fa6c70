"""psycopg_pool's asyncio pools against a real server, and life beside other instrumentations."""

from __future__ import annotations

import asyncio

import psycopg
import psycopg_pool
import pytest
import servers
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as ContribInstrumentor
from postgres_steps import LEAKED, check_told, note_of, of_server, until
from psycopg_pool import AsyncConnectionPool, AsyncNullConnectionPool, ConnectionPool

from crawlo_otel_leaks.instrumentation.psycopg import PsycopgInstrumentor
from crawlo_otel_leaks.instrumentation.psycopg_pool import PsycopgPoolInstrumentor


@pytest.fixture
def instrumentors(rig):
    made = PsycopgInstrumentor(), PsycopgPoolInstrumentor()
    yield made
    for one in made:
        one.uninstrument()


@pytest.fixture
def watched(rig, instrumentors):
    for one in instrumentors:
        one.instrument()
    rig.runtime.tick()


@pytest.fixture(params=[AsyncConnectionPool, AsyncNullConnectionPool])
def pool(request, watched):
    def made(**options):
        sizes = {"min_size": 1, "max_size": 2} if request.param is AsyncConnectionPool else {"max_size": 2}
        return request.param(servers.postgres(), **{**sizes, "open": False, **options})

    return made


def test_what_is_given_back_leaves_nothing(rig, pool):
    async def query(opened):
        async with opened.connection() as connection:
            await connection.execute("select 1")

    async def main():
        async with pool() as opened:
            await asyncio.gather(*(query(opened) for _ in range(100)))
            rig.pass_time(1)
            assert rig.held == []
            assert len(rig.recorder.released_handles) == 100

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_one_that_is_kept_is_a_leak_until_it_is_given_back(rig, pool, tracer):
    async def job(opened):
        with tracer.start_as_current_span("job") as span:
            return await opened.getconn(), span.get_span_context()

    async def main():
        async with pool() as opened:
            kept, span = await asyncio.create_task(job(opened))
            rig.settle()
            (leak,) = rig.recorder.opened_leaks
            assert (leak.kind, leak.reason.value, leak.name) == (*LEAKED, of_server())
            assert leak.where.text == "return await opened.getconn(), span.get_span_context()"
            assert leak.owner.span == span
            await asyncio.create_task(opened.putconn(kept))
            rig.pass_time(1)
            assert len(rig.recorder.resolved_leaks) == 1
            assert rig.held == []

    asyncio.run(main())


def test_who_asked_is_found_though_a_task_of_asyncios_own_awaits(rig, pool):
    async def works(opened, done):
        connection = await asyncio.wait_for(opened.getconn(), 5)
        await done.wait()
        await opened.putconn(connection)

    async def main():
        async with pool() as opened:
            done = asyncio.Event()
            task = asyncio.create_task(works(opened, done), name="the worker")
            await until(lambda: rig.held)
            assert [handle.task_name for handle in rig.held] == ["the worker"]
            assert [handle.site.frames[0][0].co_name for handle in rig.held] == ["works"]
            rig.settle()
            assert rig.verdicts in ([], [("db.connection", "slow")])
            done.set()
            await task

    asyncio.run(main())


@pytest.mark.skipif(psycopg_pool.__version__ < "3.1.7", reason="it loses the connection itself: psycopg #509")
def test_what_is_cancelled_while_it_waits_or_is_closed_on_holds_nothing(rig, pool):
    async def main():
        async with pool(max_size=1, min_size=0) as opened:
            kept = await opened.getconn()
            waiters = [asyncio.create_task(opened.getconn()) for _ in range(10)]
            await asyncio.sleep(0.01)
            for task in waiters[:9]:
                task.cancel()
            await asyncio.gather(*waiters[:9], return_exceptions=True)
            assert len(rig.held) == 1
            await opened.putconn(kept)
            await opened.putconn(await waiters[9])
            assert rig.held == []
            kept, waiter = await opened.getconn(), asyncio.create_task(opened.getconn())
            await asyncio.sleep(0.01)
            await opened.close()
            with pytest.raises(psycopg_pool.PoolClosed) as caught:
                await waiter
            assert getattr(caught.value, "__notes__", []) == []
            await opened.putconn(kept)
            assert rig.held == []

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


@pytest.mark.usefixtures("watched")
def test_a_release_that_is_cancelled_leaves_the_connection_out_if_the_pool_says_so(rig):
    async def main():
        async with AsyncConnectionPool(servers.postgres(), min_size=1, max_size=1, open=False) as pool:
            kept = await pool.getconn()
            await kept.execute("select 1")  # its transaction is rolled back at the release
            async with kept.lock:
                task = asyncio.create_task(pool.putconn(kept))
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert bool(rig.held) == (getattr(kept, "_pool", None) is pool)
            if rig.held:
                await pool.putconn(kept)
            assert rig.held == []

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_one_that_is_dropped_is_abandoned(rig, pool):
    async def main():
        async with pool() as opened:
            await opened.getconn()
            rig.pass_time(1)
            assert rig.verdicts == [("db.connection", "abandoned")]

    asyncio.run(main())


def test_who_waits_in_vain_is_told_who_holds(rig, pool, tracer, telemetry):
    async def main():
        async with pool() as opened:
            with tracer.start_as_current_span("hoarder") as hoarder:
                kept = [await opened.getconn() for _ in range(2)]
            rig.clock.advance(312)
            with tracer.start_as_current_span("waiter") as waiter, pytest.raises(psycopg_pool.PoolTimeout) as caught:
                await opened.getconn(timeout=0.05)
            assert note_of(caught.value).startswith(
                f"2 of 2 connections of pool {of_server()} held: 2 since up to 312 s by test_psycopg_pool_async.py:",
            )
            check_told(rig, telemetry, caught.value, waiter, hoarder)
            for connection in kept:
                await opened.putconn(connection)

    asyncio.run(main())


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("ours_leaves_first", [True, False])
def test_beside_contribs_instrumentation(rig, instrumentors, telemetry, ours_first, ours_leaves_first):
    theirs = ContribInstrumentor()
    order = (*instrumentors, theirs) if ours_first else (theirs, *instrumentors)
    for one in order:
        one.instrument()

    def main(watched):
        with ConnectionPool(servers.postgres(), min_size=1, max_size=1, open=True) as pool:
            kept = [pool.getconn(), psycopg.connect(servers.postgres()), psycopg.Connection.connect(servers.postgres())]
            for connection in kept:
                assert connection.execute("select 1").fetchone() == (1,)
            assert len(rig.held) == (3 if watched else 0)
            pool.putconn(kept.pop(0))
            for connection in kept:
                connection.close()
            assert rig.held == []

    main(watched=True)
    assert len(telemetry.spans("select")) == 3
    for one in (*instrumentors, theirs) if ours_leaves_first else (theirs, *instrumentors):
        one.uninstrument()
    main(watched=False)
    assert len(telemetry.spans("select")) == 3


def test_uninstrumented_the_library_is_as_before(instrumentors):
    def names():
        kinds = (
            psycopg.Connection.mro()[1],
            psycopg.Connection,
            psycopg.AsyncConnection,
            ConnectionPool,
            AsyncConnectionPool,
        )
        return [{name: id(value) for name, value in vars(kind).items()} for kind in kinds]

    before = names()
    for one in instrumentors:
        one.instrument()
    assert all(one != other for one, other in zip(before, names(), strict=True))
    for one in instrumentors:
        one.uninstrument()
    assert all(one == other for one, other in zip(before, names(), strict=True))

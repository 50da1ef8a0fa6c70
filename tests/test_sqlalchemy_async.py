"""SQLAlchemy's asyncio engines against real PostgreSQL by asyncpg, and SQLite by aiosqlite."""

from __future__ import annotations

import asyncio
import warnings

import pytest
import servers
import sqlalchemy
from garbage import collect
from sqlalchemy import pool, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.sqlalchemy import SqlAlchemyInstrumentor

LEAKED = ("db.connection", "owner_finished")
SELECT = text("select 1")


@pytest.fixture
def watched(rig):
    instrumentor = SqlAlchemyInstrumentor()
    instrumentor.instrument()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.fixture(params=["postgresql", "sqlite"])
def engine(request, watched, tmp_path):
    address = servers.postgres().replace("postgresql:", "postgresql+asyncpg:")
    url = address if request.param == "postgresql" else f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    options = {} if request.param == "postgresql" else {"poolclass": pool.AsyncAdaptedQueuePool}
    return create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=0.1, **options)


@pytest.fixture
def asyncpg(watched):
    return create_async_engine(servers.postgres().replace("postgresql:", "postgresql+asyncpg:"))


async def until(happened):
    while not happened():  # noqa: ASYNC110  (what happens in the library sets no event)
        await asyncio.sleep(0)


async def take(engine, tracer):
    with tracer.start_as_current_span("job"):
        connection = await engine.connect()
        await connection.execute(SELECT)
        return connection


def test_what_is_given_back_is_no_leak_and_nothing_stays_held(rig, engine, tracer):
    async def job():
        with tracer.start_as_current_span("job"):
            async with engine.connect() as connection:
                await connection.execute(SELECT)
            async with AsyncSession(engine) as session:
                await session.execute(SELECT)

    async def main():
        for _ in range(25):
            await asyncio.gather(job(), job())
        await engine.dispose()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert len(rig.recorder.released_handles) == 100


def test_a_session_never_closed_is_a_leak_at_the_line_that_first_executed(rig, engine, tracer):
    async def work():
        session = AsyncSession(engine)
        await session.execute(SELECT)
        return session

    async def job():
        with tracer.start_as_current_span("job") as span:
            return await work(), span

    async def main():
        session, span = await asyncio.create_task(job(), name="worker")
        rig.settle()
        (leak,) = rig.recorder.opened_leaks
        assert (leak.kind, leak.reason.value) == LEAKED
        assert leak.where.text == "await session.execute(SELECT)"
        assert [frame.function.rpartition(".")[2] for frame in leak.stack] == ["work", "job"]
        assert (leak.owner.span, leak.owner.task) == (span.get_span_context(), "worker")
        await session.close()
        rig.pass_time(1)
        assert (len(rig.recorder.resolved_leaks), rig.held) == (1, [])
        await engine.dispose()

    asyncio.run(main())


def test_the_line_inside_run_sync_is_the_site(rig, engine, tracer):
    def work(session):
        session.execute(SELECT)

    async def job():
        with tracer.start_as_current_span("job"):
            session = AsyncSession(engine)
            await session.run_sync(work)
            return session

    async def main():
        session = await asyncio.create_task(job())
        rig.settle()
        assert [leak.where.text for leak in rig.recorder.opened_leaks] == ["session.execute(SELECT)"]
        await session.close()
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")
@pytest.mark.parametrize("cyclic", [False, True])
def test_one_that_is_dropped_is_terminated_and_abandoned(rig, engine, tracer, cyclic):
    async def drop():
        left = [await take(engine, tracer)]
        if cyclic:
            left.append(left)

    async def main():
        await asyncio.create_task(drop())
        collect()
        rig.settle()
        assert rig.verdicts == [("db.connection", "abandoned")]
        assert rig.recorder.opened_leaks[0].where.text == "connection = await engine.connect()"
        assert [len(one.held) for one in rig.runtime.pools] == [0]
        async with engine.connect() as connection:
            await connection.execute(SELECT)
        assert rig.held == []
        await engine.dispose()

    asyncio.run(main())


def test_a_detached_connection_is_the_programs_own(rig, engine, tracer):
    async def main():
        connection = await take(engine, tracer)
        raw = await connection.get_raw_connection()
        raw.detach()
        assert [len(one.held) for one in rig.runtime.pools] == [0]
        assert len(rig.held) == 1
        await connection.close()
        assert rig.held == []
        await engine.dispose()

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_cancelled_while_it_waits_for_a_connection(rig, engine, tracer):
    async def main():
        kept = [await take(engine, tracer) for _ in range(2)]
        task = asyncio.create_task(take(engine, tracer))
        await until(lambda: any(one.waiting for one in rig.runtime.pools))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [(len(one.held), len(one.waiting), one.timeouts) for one in rig.runtime.pools] == [(2, 0, 0)]
        for connection in kept:
            await connection.close()
        await engine.dispose()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_cancelled_while_it_gives_back(rig, asyncpg, tracer):
    async def main():
        connection = await take(asyncpg, tracer)
        task = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()
        collect()
        assert rig.held == []
        await asyncpg.dispose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(main())
    rig.settle()
    assert rig.held == []
    assert rig.verdicts in ([], [("db.connection", "abandoned")])


def test_acquired_in_one_task_and_released_in_another(rig, engine, tracer):
    async def main():
        connection = await asyncio.create_task(take(engine, tracer))
        await asyncio.create_task(connection.close())
        await engine.dispose()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_an_engine_disposed_with_connections_out(rig, engine, tracer):
    async def main():
        connection = await take(engine, tracer)
        await engine.dispose()
        assert len(rig.held) == 1
        await connection.close()
        assert rig.held == []
        await engine.dispose()

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_what_is_kept_by_design_can_be_adopted_by_any_name(rig, asyncpg, tracer):
    async def job():
        with tracer.start_as_current_span("job"):
            session, connection = AsyncSession(asyncpg), await asyncpg.connect()
            await session.execute(SELECT)
            listening, proxied = await asyncpg.connect(), await asyncpg.connect()
            driver = (await listening.get_raw_connection()).dbapi_connection.driver_connection
            await driver.add_listener("news", print)
            for one in (session, connection, driver, await proxied.get_raw_connection()):
                adopt(one)
            return session, connection, listening, proxied

    async def main():
        kept = await asyncio.create_task(job())
        rig.settle()
        assert rig.verdicts == []
        assert [handle.process for handle in rig.held] == [True] * 4
        for one in kept:
            await one.close()
        assert rig.held == []
        await asyncpg.dispose()

    asyncio.run(main())


def test_a_long_query_is_slow_and_no_leak(rig, asyncpg, tracer):
    async def main():
        connection = await asyncio.create_task(take(asyncpg, tracer))
        query = asyncio.create_task(connection.execute(text("select pg_sleep(0.2)")))
        await until(rig.held[0].busy)
        rig.pass_time(60, steps=30)
        assert rig.verdicts == [("db.connection", "slow")]
        await query
        assert not rig.held[0].busy()
        await connection.close()
        await asyncpg.dispose()

    asyncio.run(main())


def test_one_that_is_used_again_and_again_is_no_leak(rig, asyncpg, tracer):
    async def main():
        connection = await asyncio.create_task(take(asyncpg, tracer))
        for _ in range(30):
            await connection.execute(SELECT)
            rig.pass_time(9)
        assert [reason for _, reason in rig.verdicts if reason != "slow"] == []
        rig.pass_time(300, steps=60)  # the older it is, the more seldom it is looked at
        assert rig.verdicts[-1] == LEAKED
        await connection.close()
        await asyncpg.dispose()

    asyncio.run(main())


def test_the_waiter_in_vain_is_told_who_holds(rig, engine, tracer):
    async def main():
        with tracer.start_as_current_span("hoarder") as hoarder:
            kept = [await engine.connect() for _ in range(2)]
        rig.clock.advance(312)
        with (
            tracer.start_as_current_span("waiter") as waiter,
            pytest.raises(sqlalchemy.exc.TimeoutError, match="QueuePool limit of size 2 overflow 0") as caught,
        ):
            await engine.connect()
        (note,) = caught.value.__notes__
        name = engine.url.database if engine.name == "sqlite" else f"127.0.0.1:{engine.url.port}/postgres"
        assert note.startswith(f"2 of 2 connections of pool {name} held: 2 since up to 312 s by ")
        assert "test_sqlalchemy_async.py:" in note
        (event,) = [event for event in waiter.events if event.name == "crawlo.pool.exhausted"]
        assert event.attributes["crawlo.pool.held"] == 2
        assert [link.context for link in waiter.links] == [hoarder.get_span_context()]
        for connection in kept:
            await connection.close()
        await engine.dispose()

    asyncio.run(main())

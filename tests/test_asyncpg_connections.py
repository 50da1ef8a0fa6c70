"""asyncpg's connections that a program opens itself, against a real server."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import servers
from conftest import watching
from garbage import collect, hearing
from postgres_steps import LEAKED, crowded_user, note_of, of_server, until

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.asyncpg import AsyncpgInstrumentor

pytestmark = pytest.mark.usefixtures("_watched")


@pytest.fixture
def _watched(rig):
    with watching(rig, AsyncpgInstrumentor()):
        yield


async def connect():
    return await asyncpg.connect(servers.postgres())


@pytest.mark.parametrize("end", ["close", "terminate", "lost", "aborted"])
def test_each_end_of_a_connection_ends_the_hold(rig, end):
    async def main():
        connection = await connect()
        (handle,) = rig.held
        assert (handle.kind, handle.name) == ("db.connection", of_server())
        if end == "close":
            await connection.close()
        elif end == "terminate":
            connection.terminate()
        elif end == "aborted":
            connection._protocol.abort()  # as after a timeout: nothing tells of it
            assert len(rig.held) == 1
            rig.pass_time(2, steps=2)
        else:
            other = await connect()
            await other.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await until(connection.is_closed)
            await other.close()
            rig.pass_time(2, steps=2)
        assert rig.held == []

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_one_that_its_job_leaves_open_is_a_leak_and_one_for_all_jobs_is_not(rig, tracer):
    async def job():
        with tracer.start_as_current_span("job"):
            return await connect()

    async def main():
        kept = [await asyncio.create_task(job())]
        rig.settle()
        assert rig.verdicts == [], "the only one that its line made may be shared by design"
        kept.append(await asyncio.create_task(job()))
        rig.settle()
        assert rig.verdicts == [LEAKED, LEAKED]
        assert rig.recorder.opened_leaks[0].where.text == "return await asyncpg.connect(servers.postgres())"
        for connection in kept:
            await connection.close()
        rig.pass_time(1)
        assert len(rig.recorder.resolved_leaks) == 2

    asyncio.run(main())


@pytest.mark.parametrize("cyclic", [True, False])
def test_one_that_is_dropped_is_abandoned(rig, cyclic):
    async def main():
        connection = await connect()
        cycle = [connection] if cyclic else []
        cycle.append(cycle)
        await asyncio.sleep(0.01)  # asyncpg 0.31 lets go of it in a callback
        with hearing() as told:
            del connection, cycle
            collect()
        assert any(one.category is ResourceWarning for one in told)

    asyncio.run(main())
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]


def test_one_that_was_closed_or_cancelled_is_not(rig):
    async def main():
        connection = await connect()
        await connection.close()
        del connection
        task = asyncio.create_task(connect())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    collect()
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])


@pytest.mark.parametrize("adopted", [True, False])
def test_a_listener_is_kept_by_design_when_it_is_adopted(rig, adopted):
    async def listen():
        connection = await connect()
        await connection.add_listener("news", print)
        if adopted:
            adopt(connection)
        return connection

    async def main():
        kept = [await asyncio.create_task(listen()) for _ in range(2)]
        rig.settle()
        assert rig.verdicts == ([] if adopted else [LEAKED, LEAKED])
        for connection in kept:
            await connection.close()

    asyncio.run(main())


def test_a_closed_loop_leaves_what_nobody_can_close(rig):
    loop = asyncio.new_event_loop()
    kept = [loop.run_until_complete(connect()) for _ in range(2)]
    assert [handle.loop_closed() for handle in rig.held] == [False, False]
    loop.close()
    rig.settle()
    assert {reason for _, reason in rig.verdicts} <= {"owner_finished", "loop_closed"}
    assert len(rig.verdicts) == len(kept)
    for connection in kept:
        connection._transport._sock.close()


def test_whom_the_server_refuses_one_is_told_who_holds_the_others(rig):
    made, url = crowded_user()

    async def main():
        owner = await connect()
        for statement in made:
            await owner.execute(statement)
        kept = await asyncpg.connect(url)
        rig.clock.advance(60)
        with pytest.raises(asyncpg.TooManyConnectionsError, match="too many connections") as caught:
            await asyncpg.connect(url)
        assert note_of(caught.value).startswith(f"2 connections of pool {of_server()} held: 1 since up to 60 s by ")
        async with asyncpg.create_pool(url, min_size=0, max_size=3) as pool:
            with pytest.raises(asyncpg.TooManyConnectionsError) as caught:
                await pool.acquire()
            assert note_of(caught.value).startswith("0 of 3 connections of pool ")
        await kept.close()
        await owner.close()

    asyncio.run(main())
    assert rig.held == []

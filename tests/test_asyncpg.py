"""asyncpg's pools against a real server: what is out, since when, and by whose line."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest
import servers
from conftest import GRACE, SCAN, watching
from postgres_steps import LEAKED, of_server, until

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.asyncpg import AsyncpgInstrumentor
from crawlo_otel_leaks.settings import Settings

pytestmark = pytest.mark.usefixtures("_watched")


@pytest.fixture
def _watched(rig):
    with watching(rig, AsyncpgInstrumentor()):
        yield


@contextlib.asynccontextmanager
async def a_pool(**options):
    pool = await asyncpg.create_pool(servers.postgres(), **{"min_size": 1, "max_size": 2, **options})
    try:
        yield pool
    finally:
        pool.terminate()


def test_what_is_given_back_leaves_nothing(rig):
    async def main():
        async with a_pool(max_size=5, max_queries=7) as pool:
            await asyncio.gather(*(pool.fetchval("select 1") for _ in range(60)))
            for _ in range(40):
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("select 1")
            rig.pass_time(1)
            assert rig.held == []
            assert len(rig.recorder.released_handles) == 100

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_one_that_is_kept_is_a_leak_until_it_is_given_back(rig, tracer):
    async def job(pool):
        with tracer.start_as_current_span("job") as span:
            return await pool.acquire(), span.get_span_context()

    async def main():
        async with a_pool() as pool:
            kept, span = await asyncio.create_task(job(pool))
            rig.settle()
            (leak,) = rig.recorder.opened_leaks
            assert (leak.kind, leak.reason.value, leak.name) == (*LEAKED, of_server())
            assert leak.where.text == "return await pool.acquire(), span.get_span_context()"
            assert leak.owner.span == span
            await pool.release(kept)
            rig.pass_time(1)
            assert len(rig.recorder.resolved_leaks) == 1
            assert rig.held == []

    asyncio.run(main())


@pytest.mark.parametrize("how", ["wait_for", "gather", "timeout"])
def test_who_asked_is_found_though_a_task_of_asyncios_own_awaits(rig, how):
    async def asks(pool):
        if how == "wait_for":
            return await asyncio.wait_for(pool.acquire(), 5)
        if how == "gather":
            return (await asyncio.gather(pool.acquire()))[0]
        return await pool.acquire(timeout=5)

    async def main():
        async with a_pool() as pool:
            done = asyncio.Event()

            async def works():
                connection = await asks(pool)
                await done.wait()
                await pool.release(connection)

            task = asyncio.create_task(works(), name="the worker")
            await until(lambda: rig.held)
            (handle,) = rig.held
            assert handle.site.frames[0][0] is asks.__code__
            assert handle.task_name == "the worker"
            rig.settle()
            assert rig.verdicts in ([], [("db.connection", "slow")]), "its task still works with it"
            done.set()
            await task
            assert rig.held == []

    asyncio.run(main())


def test_several_that_are_awaited_together_are_held_each(rig):
    async def asks(pool):
        return await asyncio.gather(pool.acquire(), pool.acquire())

    async def main():
        async with a_pool() as pool:
            kept = await asks(pool)
            assert [handle.site.frames[0][0] for handle in rig.held] == [asks.__code__] * 2
            for connection in kept:
                await pool.release(connection)
            assert rig.held == []

    asyncio.run(main())


def test_one_given_to_another_task_belongs_to_who_asked_and_may_be_released_by_anyone(rig):
    async def main():
        async with a_pool() as pool:

            async def asks():
                return pool.acquire()

            async def awaits(asked):
                return await asked

            kept = await asyncio.create_task(awaits(await asyncio.create_task(asks())), name="awaits")
            assert [handle.task_name for handle in rig.held] == ["awaits"]
            await asyncio.create_task(pool.release(kept))
            assert rig.held == []

    asyncio.run(main())


@pytest.mark.parametrize("end", ["close", "terminate", "lost", "expire", "release", "pool terminates"])
def test_each_end_of_a_connection_ends_the_hold(rig, end):
    async def main():
        async with a_pool() as pool:
            kept = await pool.acquire()
            if end == "close":
                await kept.close()
            elif end == "terminate":
                kept.terminate()
            elif end == "lost":
                pid, other = kept.get_server_pid(), await pool.acquire()
                await other.execute("select pg_terminate_backend($1)", pid)
                await until(lambda: kept._con is None or kept._con.is_closed())
                await pool.release(other)
                await pool.release(kept)
                await until(lambda: not rig.held)
            elif end == "expire":
                await pool.expire_connections()
                await pool.release(kept)
            elif end == "release":
                task = asyncio.create_task(pool.release(kept))
                await asyncio.sleep(0)
                task.cancel()  # it is shielded
                await until(pool.get_idle_size)
            else:
                pool.terminate()
            assert rig.held == []

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_a_pool_closed_with_one_out_waits_for_it_and_takes_it_back(rig):
    async def main():
        async with a_pool() as pool:
            kept = await pool.acquire()
            closing = asyncio.create_task(pool.close())
            await asyncio.sleep(0)
            await pool.release(kept)
            await closing
        assert rig.held == []

    asyncio.run(main())


def test_a_closed_loop_leaves_what_nobody_can_give_back(rig):
    kept = []

    async def main():
        pool = await asyncpg.create_pool(servers.postgres(), min_size=1, max_size=1)
        kept.extend([pool, await pool.acquire()])

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert [handle.loop_closed() for handle in rig.held] == [True]
    rig.settle()
    assert rig.verdicts[-1] in (LEAKED, ("db.connection", "loop_closed"))


def test_a_setup_that_fails_holds_nothing(rig):
    async def setup(connection):
        raise RuntimeError("not today")

    async def main():
        async with a_pool(setup=setup) as pool:
            for _ in range(3):
                with pytest.raises(RuntimeError, match="not today"):
                    await pool.acquire()
            assert rig.held == []

    asyncio.run(main())


def test_what_is_cancelled_while_it_waits_holds_nothing(rig):
    async def main():
        async with a_pool(max_size=1) as pool:
            kept = await pool.acquire()
            waiters = [asyncio.create_task(pool.fetchval("select 1")) for _ in range(10)]
            await asyncio.sleep(0)
            for task in waiters[:5]:
                task.cancel()
            await pool.release(kept)
            await asyncio.gather(*waiters, return_exceptions=True)
            assert rig.held == []
            assert [len(pool.waiting) for pool in rig.runtime.pools] == [0]

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_an_acquire_whose_result_is_lost_is_a_leak_of_who_asked(rig):
    """As #467 and #547 were: whoever asked gave up, what was asked for came all the same."""

    async def job(pool):
        task = asyncio.ensure_future(pool.acquire())
        done, _ = await asyncio.wait([task], timeout=0.001)
        return done

    async def main():
        async with a_pool(max_size=1) as pool:
            first = await pool.acquire()
            assert await asyncio.create_task(job(pool)) == set()
            await pool.release(first)
            await until(lambda: rig.held)
            rig.settle()
            assert rig.verdicts == [LEAKED]
            assert rig.recorder.opened_leaks[0].where.function.endswith("job")

    asyncio.run(main())


def test_one_at_work_in_a_long_query_is_slow(rig):
    async def main():
        async with a_pool() as pool:

            async def take():
                return await pool.acquire()

            kept = await asyncio.create_task(take())
            await kept.fetchval("select 1")
            query = asyncio.create_task(kept.fetchval("select pg_sleep($1)", 0.3))
            await asyncio.sleep(0.05)
            rig.pass_time(100, steps=50)
            assert rig.verdicts == [("db.connection", "slow")]
            await query
            rig.pass_time(100, steps=50)
            assert rig.verdicts[-1] == ("db.connection", "held_too_long"), "another than who took it used it"
            await pool.release(kept)

    asyncio.run(main())


@pytest.mark.parametrize("adopted", ["proxy", "connection", "nothing"])
def test_a_listener_is_kept_by_design_when_it_is_adopted(rig, adopted):
    async def main():
        async with a_pool() as pool:

            async def listen():
                connection = await pool.acquire()
                await connection.add_listener("news", print)
                adopt({"proxy": connection, "connection": connection._con, "nothing": None}[adopted])
                return connection

            kept = await asyncio.create_task(listen())
            rig.settle()
            assert rig.verdicts == ([LEAKED] if adopted == "nothing" else [])
            await kept.remove_listener("news", print)
            await pool.release(kept)
            assert rig.held == []

    asyncio.run(main())


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",))

    def test_it_can_be_exempted_by_a_setting(self, rig):
        async def main():
            async with a_pool() as pool:
                kept = await asyncio.create_task(take(pool))
                rig.settle()
                await pool.release(kept)

        asyncio.run(main())
        assert rig.verdicts == []


async def take(pool):
    return await pool.acquire()

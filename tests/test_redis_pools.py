"""redis-py and valkey-py: pools that close, who is cancelled while waiting for them, and what is created in them."""

from __future__ import annotations

import asyncio
import threading

import pytest
import servers

from crawlo_otel_leaks import semconv

pytest_plugins = ["redis_clients"]


def take(pool):
    return pool.get_connection("_")


def test_who_is_cancelled_while_acquiring_holds_nothing_and_gets_no_note(rig, package, where):
    async def main():
        pool = package.asyn.BlockingConnectionPool(max_connections=1, timeout=20, **where)
        kept = await pool.get_connection("_")
        task = asyncio.create_task(pool.get_connection("_"))
        await asyncio.sleep(0)
        (known,) = rig.runtime.pools
        assert len(known.waiting) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert getattr(caught.value, "__notes__", []) == []
        assert (len(known.waiting), len(known.held), known.timeouts) == (0, 1, 0)
        await pool.release(kept)
        await pool.release(await pool.get_connection("_"))
        await pool.aclose()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_blocking_pool_that_gives_up_tells_who_holds(rig, package, where):
    async def main():
        pool = package.asyn.BlockingConnectionPool(max_connections=1, timeout=0.05, **where)
        kept = await pool.get_connection("_")
        with pytest.raises(package.errors.ConnectionError, match="No connection available") as caught:
            await pool.get_connection("_")
        await pool.release(kept)
        await pool.aclose()
        return caught.value.__notes__

    (note,) = asyncio.run(main())
    assert note.startswith("1 of 1 connections of pool {host}:{port}/0 held: 1 since ".format(**where))


def test_what_one_thread_takes_another_may_give_back(rig, package, where):
    pool, got = package.module.ConnectionPool(**where), []
    thread = threading.Thread(target=lambda: got.append(take(pool)))
    thread.start()
    thread.join()
    assert len(rig.held) == 1
    pool.release(got[0])
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    pool.disconnect()


def test_what_one_task_takes_another_may_give_back(rig, package, where, tracer):
    async def take_async(pool):
        with tracer.start_as_current_span("job"):
            return await pool.get_connection("_")

    async def main():
        pool = package.asyn.ConnectionPool(**where)
        connection = await asyncio.create_task(take_async(pool))
        rig.pass_time(5)
        await pool.release(connection)
        await pool.aclose()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_closed_pool_holds_nothing_but_stays_charged_until_its_connections_are_released(rig, package, where):
    pool = package.module.ConnectionPool(**where)
    connection = take(pool)
    pool.disconnect(inuse_connections=False)
    assert len(rig.held) == 1
    pool.disconnect()
    (known,) = rig.runtime.pools
    assert (rig.held, len(known.held)) == ([], 1)
    rig.settle()
    pool.release(connection)
    assert (rig.verdicts, len(known.held)) == ([], 0)


def test_an_async_pool_that_is_closed_holds_nothing(rig, package, where):
    async def main():
        pool = package.asyn.ConnectionPool(**where)
        connection = await pool.get_connection("_")
        await pool.aclose()
        (known,) = rig.runtime.pools
        assert (rig.held, len(known.held)) == ([], 1)
        await pool.release(connection)
        assert len(known.held) == 0

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_a_pool_without_limit_has_none(rig, package, where):
    pool = package.module.ConnectionPool(max_connections=2**31, **where)
    pool.release(take(pool))
    (known,) = rig.runtime.pools
    assert (known.read().max, known.read().idle) == (None, 1)
    pool.disconnect()


def test_a_client_from_a_pool_gives_back_and_closes_it(rig, package, where):
    client_class = getattr(package.asyn, package.name.capitalize())
    if not hasattr(client_class, "from_pool"):
        pytest.skip("this release makes none")

    async def main():
        client = client_class.from_pool(package.asyn.BlockingConnectionPool(max_connections=2, **where))
        await asyncio.gather(*(client.get("key") for _ in range(20)))
        assert [one.timeouts for one in rig.runtime.pools] == [0]
        await client.aclose()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


@pytest.mark.parametrize("kind", ["ConnectionPool", "BlockingConnectionPool"])
def test_each_new_connection_is_timed_once(rig, package, where, telemetry, kind):
    pool = getattr(package.module, kind)(**where)
    client = package.client(connection_pool=pool)
    for _ in range(5):
        client.get("key")
    kept = [take(pool) for _ in range(2)]
    (known,) = rig.runtime.pools
    assert len(known.creations) == 2
    for one in kept:
        pool.release(one)
    rig.runtime.tick()
    assert len(known.creations) == 0
    assert semconv.METRIC_POOL_CREATE_TIME in telemetry.metrics()
    pool.disconnect()


@pytest.mark.parametrize("kind", ["ConnectionPool", "BlockingConnectionPool"])
def test_each_new_async_connection_is_timed_once(rig, package, where, kind):
    async def main():
        pool = getattr(package.asyn, kind)(**where)
        client = package.async_client(connection_pool=pool)
        for _ in range(5):
            await client.get("key")
        await pool.aclose()
        return [len(one.creations) for one in rig.runtime.pools]

    assert asyncio.run(main()) == [1]


def test_a_connection_that_is_opened_at_its_second_try_is_timed_by_nobody(rig, package, where):
    """What was made for the first try lies idle, not open, for however long."""
    pool = package.module.ConnectionPool(**{**where, "port": servers.free_port()})
    with pytest.raises(package.errors.ConnectionError):
        take(pool)

    async def main():
        asyn = package.asyn.ConnectionPool(**{**where, "port": servers.free_port()})
        with pytest.raises(package.errors.ConnectionError):
            await asyn.get_connection("_")
        (connection,) = asyn._available_connections
        connection.port = where["port"]
        await asyn.release(await asyn.get_connection("_"))
        await asyn.aclose()
        return [len(one.creations) for one in rig.runtime.pools]

    (connection,) = pool._available_connections
    connection.port = where["port"]
    pool.release(take(pool))
    pool.disconnect()
    assert asyncio.run(main()) == [0, 0]


def test_a_server_that_is_not_there_times_no_connection_and_holds_none(rig, package):
    nowhere = {"host": "127.0.0.1", "port": servers.free_port()}
    pool = package.module.ConnectionPool(**nowhere)
    with pytest.raises(package.errors.ConnectionError) as caught:
        take(pool)

    async def main():
        asyn = package.asyn.ConnectionPool(**nowhere)
        with pytest.raises(package.errors.ConnectionError):
            await asyn.get_connection("_")
        return [(len(one.creations), len(one.waiting), len(one.held), one.timeouts) for one in rig.runtime.pools]

    assert asyncio.run(main()) == [(0, 0, 0, 0)] * 2
    assert getattr(caught.value, "__notes__", []) == []

"""aiomysql and asyncmy against a real server: connections that a program opens itself, and failures."""

from __future__ import annotations

import asyncio
import importlib

import pymysql
import pytest
import servers
from garbage import collect
from mysql_steps import LEAKED, PACKAGES, a_pool, name, one, package, where

from crawlo_otel_leaks.instrumentation import _mysql
from crawlo_otel_leaks.instrumentation.asyncmy import KEPT

__all__ = ["package"]


async def two(package, tracer, **options):
    """Take two at one line, which one alone might keep for good by design."""
    taken = []
    for _ in range(2):
        with tracer.start_as_current_span("job"):
            taken.append(await package.connect(**{**where(), **options}))
    return taken


def test_what_is_closed_is_no_leak(rig, package):
    async def main():
        for number in range(40):
            connection = await package.connect(**where())
            assert await one(connection) == (1,)
            if number % 2:
                connection.close()
            else:
                await connection.ensure_closed()
        async with package.connect(**where()) as connection:
            assert len(rig.held) == 1

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert len(rig.recorder.released_handles) == 41


def test_what_is_not_closed_is_a_leak_until_it_is(rig, package, tracer):
    async def main():
        kept = await asyncio.create_task(two(package, tracer))
        rig.settle()
        assert rig.verdicts == [LEAKED] * 2
        leak = rig.recorder.opened_leaks[0]
        assert leak.where.text == "taken.append(await package.connect(**{**where(), **options}))"
        assert leak.name == name()
        for connection in kept:
            await connection.ensure_closed()

    asyncio.run(main())
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 2


def test_one_that_others_use_after_its_owner_is_shared(rig, package, tracer):
    async def main():
        kept = await asyncio.create_task(two(package, tracer))
        for connection in kept:
            assert await one(connection) == (1,)
        rig.settle()
        assert rig.verdicts == []
        for connection in kept:
            connection.close()

    asyncio.run(main())
    assert rig.held == []


def test_what_is_dropped_is_abandoned(rig, package):
    async def main():
        await package.connect(**where())
        collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    collect()
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]


def test_a_connect_that_is_cancelled_holds_nothing(rig, package):
    async def main():
        task = asyncio.create_task(two(package, None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert rig.held == []
    assert all(not pool.waiting for pool in rig.runtime.pools)


def test_a_close_that_is_cancelled_leaves_it_open(rig, package, monkeypatch):
    async def never():
        await asyncio.Event().wait()

    async def main():
        connection = await package.connect(**where())
        channel = getattr(connection, "_proto", None) or connection._writer
        monkeypatch.setattr(channel, "drain", never, raising=False)
        closing = asyncio.create_task(connection.ensure_closed())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        assert len(rig.held) == 1
        connection.close()

    asyncio.run(main())
    assert rig.held == []


def test_whoever_waits_for_a_connect_in_a_task_of_its_own_is_the_owner(rig, package):
    async def main():
        connection = await asyncio.wait_for(package.connect(**where()), 10)
        (handle,) = rig.held
        assert handle.task() is asyncio.current_task()
        assert handle.site.frames[0][0].co_name == "main"
        connection.close()

    asyncio.run(main())


def test_whom_the_server_refuses_is_told_who_holds(rig, package, tracer):
    with pymysql.connect(**where()) as admin, admin.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER pair@'%' IDENTIFIED BY 'p4ir' WITH MAX_USER_CONNECTIONS 2")
    options = {"user": "pair", "password": "p4ir", "db": None}

    async def main():
        kept = await two(package, tracer, **options)
        with pytest.raises(Exception, match="max_user_connections") as caught:
            await two(package, tracer, **options)
        (note,) = caught.value.__notes__
        assert note.startswith(f"2 connections of pool {name().removesuffix('/tests')} held: 2 since up to 0 s by ")
        assert "p4ir" not in note
        for connection in kept:
            connection.close()

    asyncio.run(main())


def test_a_failure_of_the_server_gets_no_note(rig, package):
    errors = pymysql.err if package.__name__ == "aiomysql" else importlib.import_module("asyncmy.errors")

    async def main():
        for wrong in ({"port": servers.free_port()}, {"password": "wr0ng"}):
            with pytest.raises(errors.OperationalError) as caught:
                await package.create_pool(**{**where(), **wrong})
            assert getattr(caught.value, "__notes__", []) == []
            with pytest.raises(errors.OperationalError) as caught:
                await package.connect(**{**where(), **wrong})
            assert getattr(caught.value, "__notes__", []) == []

    asyncio.run(main())
    assert rig.held == []
    assert all("wr0ng" not in pool.name for pool in rig.runtime.pools)


def test_the_connections_of_a_pool_are_the_pools_own(rig, package):
    async def main():
        async with a_pool(package, minsize=3) as pool:
            assert rig.held == []
            async with pool.acquire():
                assert len(rig.held) == 1
            assert [len(known.creations) for known in rig.runtime.pools] == [3]

    asyncio.run(main())


def test_a_pool_without_limit_has_none(rig, package):
    async def main():
        async with a_pool(package, minsize=0, maxsize=0) as pool, pool.acquire():
            assert [known.read() for known in rig.runtime.pools] == [(None, 0, 0, None)]

    if package.__name__ == "aiomysql":  # the other one has no such pools
        asyncio.run(main())


def test_what_is_never_awaited_is_neither_a_wait_nor_remembered_for_long(rig, package, recwarn):
    async def main():
        async with a_pool(package) as pool:
            asked = [pool.acquire() for _ in range(3 * KEPT)]
            assert [list(known.waiting) for known in rig.runtime.pools] == [[]]
            del asked

    asyncio.run(main())
    told = {str(warning.message) for warning in recwarn if warning.category is RuntimeWarning}
    # Newer releases of asyncmy begin only when they are awaited.
    assert told in ({"coroutine 'Pool._acquire' was never awaited"}, set() if package.__name__ == "asyncmy" else None)
    watches = [finder.__self__ for finder in rig.runtime.finders]
    assert all(len(getattr(watch, "_answers", ())) <= KEPT for watch in watches)


@pytest.mark.parametrize("package_name", PACKAGES)
def test_uninstrument_restores(rig, package_name):
    before = members(package_name)
    PACKAGES[package_name]().instrument()
    assert members(package_name) != before
    PACKAGES[package_name]().uninstrument()
    assert members(package_name) == before


def members(package_name):
    pool, connection = (importlib.import_module(f"{package_name}.{part}") for part in ("pool", "connection"))
    found = {**vars(pool.Pool), **vars(connection.Connection), "_connect": connection._connect}
    return {name: id(member) for name, member in found.items()}


def test_names_are_in_semantic_form_and_without_secrets():
    assert _mysql.place({"host": "db", "user": "u", "password": "p", "port": 0}) == "db:3306"
    assert _mysql.place({"unix_socket": "/run/mysqld.sock", "host": "localhost", "db": "x"}) == "/run/mysqld.sock/x"
    assert _mysql.place({"host": "localhost", "read_default_file": "~/.my.cnf", "db": "x"}) == "~/.my.cnf/x"
    assert _mysql.place({"host": "db", "read_default_file": "~/.my.cnf", "database": "x"}) == "db:3306/x"

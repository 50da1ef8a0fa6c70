"""aiosqlite: a connection left open keeps a thread, which keeps the interpreter from its end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import operator

import aiosqlite
import programs
import pytest
from garbage import collect
from sqlalchemy.ext.asyncio import create_async_engine

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.aiosqlite import AiosqliteInstrumentor
from crawlo_otel_leaks.instrumentation.sqlite3 import Sqlite3Instrumentor

LEAKED = ("db.connection", "owner_finished")
VERSION = tuple(int(part) for part in importlib.metadata.version("aiosqlite").split(".")[:2])
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted before being closed", "ignore:unclosed database")


@pytest.fixture
def watched(rig):
    instrumentors = [AiosqliteInstrumentor(), Sqlite3Instrumentor()]
    for one in instrumentors:
        one.instrument()
    yield
    for one in instrumentors:
        one.uninstrument()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


async def take(path, tracer):
    with tracer.start_as_current_span("job"):
        database = aiosqlite.connect(path)
        return await database


def test_what_is_closed_is_no_leak(rig, watched, path, tracer):
    async def job():
        with tracer.start_as_current_span("job"):
            async with aiosqlite.connect(path) as database:
                assert str(path) in [handle.label() for handle in rig.held]
                await database.execute("select 1")
            database = await aiosqlite.connect(database=str(path))
            await database.close()

    async def main():
        for _ in range(25):
            await asyncio.gather(job(), job())

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert len(rig.recorder.released_handles) == 100


def test_what_is_left_open_is_a_leak_at_the_line_of_connect(rig, watched, path, tracer):
    async def main():
        kept = [await asyncio.create_task(take(path, tracer), name="worker") for _ in range(2)]
        rig.settle()
        assert rig.verdicts == [LEAKED] * 2
        (leak, _) = rig.recorder.opened_leaks
        assert (leak.where.text, leak.owner.task) == ("database = aiosqlite.connect(path)", "worker")
        for database in kept:
            await database.close()
        rig.pass_time(1)
        assert (len(rig.recorder.resolved_leaks), rig.held) == (2, [])

    asyncio.run(main())


def test_the_only_one_of_its_line_is_told_once_its_loop_is_closed(rig, watched, path, tracer):
    async def main():
        return await take(path, tracer)

    database = asyncio.run(main())
    rig.settle()
    assert rig.verdicts == [("db.connection", "loop_closed")]
    asyncio.run(database.close())
    rig.pass_time(1)
    assert (len(rig.recorder.resolved_leaks), rig.held) == (1, [])


def test_one_that_the_next_loop_uses_is_none(rig, watched, path, tracer):
    async def use(database):
        await database.execute("select 1")
        rig.settle()

    database = asyncio.run(take(path, tracer))
    for _ in range(3):
        asyncio.run(use(database))
    assert rig.verdicts == []
    asyncio.run(database.close())


@pytest.mark.skipif(VERSION < (0, 22), reason="before 0.22 its thread keeps it")
def test_one_that_is_dropped_is_abandoned(rig, watched, path, tracer):
    async def drop():
        await take(path, tracer)

    asyncio.run(drop())
    collect()
    rig.settle()
    assert rig.verdicts == [("db.connection", "abandoned")]
    assert [len(one.held) for one in rig.runtime.pools] == [0]


def test_one_that_is_never_awaited_is_not_open(rig, watched, path):
    database = aiosqlite.connect(path)
    assert rig.held == []
    del database
    collect()
    rig.settle()
    assert rig.verdicts == []


def test_cancelled_while_it_opens(rig, watched, path, tracer):
    async def main():
        connecting = aiosqlite.connect(path)
        task = asyncio.create_task(opened(connecting))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert len(rig.held) == int(connecting._running)  # old releases leave its thread running
        if connecting._running:
            connecting._connection = await asyncio.to_thread(stolen, connecting)
        await connecting.close()

    asyncio.run(main())
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


async def opened(connecting):
    return await connecting


def stolen(connecting):
    """What an old release opened for nobody cannot be closed in its own words; end its thread by another."""
    import sqlite3  # noqa: PLC0415

    return sqlite3.Connection(":memory:", check_same_thread=False)


def test_cancelled_while_it_closes(rig, watched, path, tracer):
    async def main():
        database = await take(path, tracer)
        task = asyncio.create_task(database.close())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert rig.held == []

    asyncio.run(main())
    rig.settle()
    assert rig.verdicts == []


def test_a_long_query_is_no_leak(rig, watched, path, tracer):
    count = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000000) select max(i) from n"

    async def main():
        kept = [await asyncio.create_task(take(path, tracer)) for _ in range(2)]
        await kept[1].close()
        query = asyncio.create_task(kept[0].execute_fetchall(count))
        await asyncio.sleep(0)
        assert rig.held[0].busy()
        rig.pass_time(60, steps=30)
        assert rig.verdicts == []  # of what may be kept for long by design, not even slow
        assert await query == [(2000000,)]
        assert not rig.held[0].busy()
        await kept[0].close()

    asyncio.run(main())


def test_what_is_kept_by_design_can_be_adopted(rig, watched, path, tracer):
    async def main():
        kept = [adopt(await asyncio.create_task(take(path, tracer))) for _ in range(2)]
        rig.settle()
        for database in kept:
            await database.close()

    asyncio.run(main())
    assert (rig.verdicts, rig.held) == ([], [])


def test_connections_of_an_engine_are_its_pools(rig, watched, path, tracer):
    async def main():
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        async with engine.connect():
            assert rig.held == []
        await engine.dispose()

    asyncio.run(main())


def test_errors_are_the_librarys_own(rig, watched, tmp_path):
    async def main():
        await aiosqlite.connect(tmp_path / "nowhere" / "app.db")

    with pytest.raises(aiosqlite.OperationalError, match="unable to open database file") as caught:
        asyncio.run(main())
    assert (getattr(caught.value, "__notes__", []), rig.held) == ([], [])
    with pytest.raises(TypeError):
        aiosqlite.connect()


def test_uninstrumented_it_is_as_before(rig):
    def state():
        connection = aiosqlite.core.Connection
        names = [name for name in ("close", "_execute", "_connect", "stop", "__del__") if hasattr(connection, name)]
        return [aiosqlite.connect, aiosqlite.core.connect, *(getattr(connection, name) for name in names)]

    before, instrumentor = state(), AiosqliteInstrumentor()
    instrumentor.instrument()
    assert not any(map(operator.is_, state(), before))
    instrumentor.uninstrument()
    assert all(map(operator.is_, state(), before))


def test_what_keeps_the_interpreter_from_its_end_is_told_before_it(tmp_path):
    source = """
        import asyncio, os, threading, time
        import aiosqlite
        from crawlo_otel_leaks import runtime

        async def main():
            global kept
            database = await aiosqlite.connect("app.db")
            kept = [database]

        def tell():
            end = time.monotonic() + 20
            while not runtime.current().detector.findings.by_key and time.monotonic() < end:
                time.sleep(0.05)
            for finding in runtime.current().detector.findings.by_key.values():
                print(finding.reason.value, finding.first.where.text, flush=True)
            os._exit(7)

        threading.Thread(target=tell, daemon=True).start()
        asyncio.run(main())
    """
    done = programs.run(tmp_path, source)
    assert (done.returncode, done.stdout) == (7, 'loop_closed database = await aiosqlite.connect("app.db")\n')

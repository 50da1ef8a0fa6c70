"""psycopg 3: connections that a program opens itself, against a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import warnings

import psycopg
import pytest
import servers
from conftest import watching
from garbage import collect
from postgres_steps import LEAKED, crowded_user, note_of, of_server, until

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.psycopg import PsycopgInstrumentor, is_closed

pytestmark = pytest.mark.usefixtures("_watched")


@pytest.fixture
def _watched(rig):
    with watching(rig, PsycopgInstrumentor()):
        yield


def connect():
    return psycopg.connect(servers.postgres())


async def connect_async():
    return await psycopg.AsyncConnection.connect(servers.postgres())


def test_a_hundred_opened_and_closed_leave_nothing(rig):
    for _ in range(25):
        with connect() as connection:
            connection.execute("select 1")
        with psycopg.Connection.connect(servers.postgres()):
            pass
        connect().close()

    async def main():
        for _ in range(25):
            async with await connect_async() as connection:
                await connection.execute("select 1")

    asyncio.run(main())
    rig.settle()
    assert (rig.held, rig.verdicts, len(rig.recorder.released_handles)) == ([], [], 100)


def test_those_that_their_jobs_leave_open_are_leaks_and_one_for_all_jobs_is_not(rig, tracer):
    def job():
        with tracer.start_as_current_span("job"):
            return connect()

    kept = []

    def work():
        kept.append(job())

    work()
    assert [(handle.kind, handle.name) for handle in rig.held] == [("db.connection", of_server())]
    rig.settle()
    assert rig.verdicts == [], "the only one that its line made may be shared by design"
    work()
    rig.settle()
    assert rig.verdicts == [LEAKED, LEAKED]
    assert rig.recorder.opened_leaks[0].where.text == "return psycopg.connect(servers.postgres())"
    for connection in kept:
        connection.close()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 2


def test_those_that_tasks_leave_open_are_leaks(rig):
    async def main():
        kept = [await asyncio.create_task(connect_async(), name="job") for _ in range(2)]
        assert {handle.task_name for handle in rig.held} == {"job"}
        rig.settle()
        assert rig.verdicts == [LEAKED, LEAKED]
        assert rig.recorder.opened_leaks[0].where.function == "connect_async"
        for connection in kept:
            await connection.close()
        assert rig.held == []

    asyncio.run(main())


def test_each_request_of_a_thread_may_use_the_threads_connection(rig, tracer):
    """As Django's persistent connections are used: opened in one request, closed many requests later."""
    kept = {}

    def request():
        with tracer.start_as_current_span("request"):
            name = threading.current_thread().name
            if name not in kept:
                kept[name] = connect()
            kept[name].execute("select 1")
            kept[name].commit()

    def serve():
        for _ in range(3):
            request()

    for _ in range(2):
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
    rig.pass_time(25, steps=25)
    assert (len(kept), rig.verdicts) == (2, [])
    for connection in kept.values():
        connection.close()


@pytest.mark.parametrize("cyclic", [True, False])
def test_one_that_is_dropped_is_abandoned(rig, cyclic):
    connection = connect()
    if cyclic:
        connection.itself = connection
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del connection
        collect()
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]


def test_one_that_the_server_closed_is_no_leak(rig):
    kept = [connect() for _ in range(2)]
    with connect() as other:
        for connection in kept:
            other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
    for connection in kept:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    del connection
    kept.pop()
    collect()
    rig.pass_time(1)
    if psycopg.pq.__impl__ == "python":  # which cannot be asked of one that somebody may be closing
        kept.clear()
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])


def test_what_is_refused_holds_nothing_and_is_the_librarys_own(rig):
    with pytest.raises(psycopg.OperationalError, match="Connection refused") as caught:
        psycopg.connect(servers.postgres(), port=servers.free_port())
    assert getattr(caught.value, "__notes__", []) == []
    with pytest.raises(psycopg.ProgrammingError, match="invalid connection option"):
        psycopg.connect(nonsense=1)

    async def main():
        task = asyncio.create_task(connect_async())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        coroutine = connect_async()
        coroutine.close()

    asyncio.run(main())
    collect()
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])


def test_whom_the_server_refuses_one_is_told_who_holds_the_others(rig):
    made, url = crowded_user()
    with psycopg.connect(servers.postgres(), autocommit=True) as owner:
        for statement in made:
            owner.execute(statement)
        with psycopg.connect(url):
            rig.clock.advance(60)
            with pytest.raises(psycopg.OperationalError) as caught:
                psycopg.connect(url)
    assert "too many connections" in str(caught.value)
    assert note_of(caught.value).startswith(f"2 connections of pool {of_server()} held: 1 since up to 60 s by ")
    assert rig.held == []


@pytest.mark.parametrize("adopted", [True, False])
def test_a_listener_is_kept_by_design_when_it_is_adopted(rig, adopted):
    async def listen():
        connection = await connect_async()
        await connection.execute("listen news")
        await connection.commit()
        return adopt(connection) if adopted else connection

    async def main():
        kept = [await asyncio.create_task(listen()) for _ in range(2)]
        rig.settle()
        assert rig.verdicts == ([] if adopted else [LEAKED, LEAKED])
        for connection in kept:
            await connection.close()

    asyncio.run(main())


def test_one_that_waits_for_a_message_or_an_answer_is_in_use(rig):
    async def wait(connection):
        async for _ in connection.notifies():
            pass

    async def main():
        kept = [await asyncio.create_task(connect_async()) for _ in range(2)]
        waiting = [asyncio.create_task(wait(connection)) for connection in kept]
        await until(lambda: all(connection.lock.locked() for connection in kept))
        assert [handle.busy() for handle in rig.held] == [True, True]
        rig.settle()
        assert rig.verdicts == []
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert [handle.busy() for handle in rig.held] == [False, False]
        for connection in kept:
            await connection.close()

    asyncio.run(main())


def test_imported_later_each_connection_is_held_once():
    program = f"""
from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.instrumentation.psycopg import PsycopgInstrumentor
PsycopgInstrumentor().instrument()
import psycopg
held = lambda: list(runtime.current().tracker.held())
for connect in (psycopg.connect, psycopg.Connection.connect):
    connection = connect({servers.postgres()!r})
    print(len(held()))
    connection.close()
print(len(held()), psycopg.connect.__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "0", "connect"]


def test_whether_one_is_closed_is_asked_of_libpq_only_where_that_is_safe():
    class Conn:
        __module__ = "psycopg.pq.pq_ctypes"

        @property
        def status(self):
            raise AssertionError

    class Connection:
        _closed = False
        pgconn = Conn()

    assert not is_closed(Connection())
    assert is_closed(object())

"""PyMySQL against a real server."""

from __future__ import annotations

import contextvars
import threading

import programs
import pymysql
import pytest
import servers
from conftest import GRACE, SCAN
from garbage import collect
from opentelemetry.instrumentation.pymysql import PyMySQLInstrumentor as Contrib

from crawlo_otel_leaks import adopt, runtime
from crawlo_otel_leaks.instrumentation.pymysql import PyMySQLInstrumentor
from crawlo_otel_leaks.settings import Settings

LEAKED = ("db.connection", "owner_finished")


@pytest.fixture
def where():
    server = servers.mariadb()
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "database": server.database,
    }


@pytest.fixture
def name(where):
    return f"{where['host']}:{where['port']}/{where['database']}"


@pytest.fixture(autouse=True)
def instrumented(rig):
    PyMySQLInstrumentor().instrument()
    yield
    PyMySQLInstrumentor().uninstrument()


@pytest.fixture
def few(where):
    """An account that may have two connections."""
    with pymysql.connect(**where) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER few@'%' IDENTIFIED BY 'fewer' WITH MAX_USER_CONNECTIONS 2")
        cursor.execute("CREATE OR REPLACE USER many@'%'")
    return {"host": where["host"], "port": where["port"], "user": "few", "password": "fewer"}


def query(connection, text="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchone()


def two(where, tracer):
    """Take two at one line, which one alone might keep for good by design."""
    taken = []
    for _ in range(2):
        with tracer.start_as_current_span("job"):
            taken.append(pymysql.connect(**where))
    return taken


def test_what_is_closed_is_no_leak(rig, where):
    for _ in range(100):
        with pymysql.connect(**where) as connection:
            assert query(connection) == (1,)
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []
    assert len(rig.recorder.released_handles) == 100


def test_what_is_not_closed_is_a_leak_until_it_is(rig, where, name, tracer):
    kept = two(where, tracer)
    rig.settle()
    assert rig.verdicts == [LEAKED] * 2
    leak = rig.recorder.opened_leaks[0]
    assert leak.where.text == "taken.append(pymysql.connect(**where))"
    assert leak.name == name
    for connection in kept:
        closer = threading.Thread(target=connection.close)
        closer.start()
        closer.join()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 2
    assert rig.held == []


def test_what_is_dropped_is_abandoned(rig, where):
    query(pymysql.connect(**where))
    collect()
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]
    assert rig.held == []


def test_one_that_the_server_closed_is_none(rig, where):
    with pymysql.connect(**where) as other, pymysql.connect(**where) as connection:
        other.kill(connection.thread_id())
        with pytest.raises(pymysql.err.OperationalError):
            query(connection)
        assert len(rig.held) == 1
        connection.ping(reconnect=True)
        assert len(rig.held) == 2
    assert rig.held == []


def test_one_opened_later_is_watched_from_then_on(rig, where):
    connection = pymysql.connect(**where, defer_connect=True)
    assert rig.held == []
    connection.connect()
    connection.connect()
    assert len(rig.held) == 1
    connection.close()
    with pytest.raises(pymysql.err.Error, match="Already closed"):
        connection.close()
    assert rig.held == []


@pytest.mark.parametrize("long", [True, False])
def test_a_query_that_outlives_its_owner_is_use(rig, where, tracer, long):
    def take():
        return [pymysql.connect(**where) for _ in range(2)]

    with tracer.start_as_current_span("job"):
        kept = take()
        text = "SELECT SLEEP(2)" if long else "SELECT 1"
        here = contextvars.copy_context()
        asking = threading.Thread(target=lambda: here.run(query, kept[0], text))
        asking.start()
        asking.join(0.1 if long else None)
        assert rig.runtime.find(kept[0]).busy() is long
    rig.settle()
    assert rig.verdicts == [LEAKED] * (1 if long else 2)
    asking.join()
    assert not rig.runtime.find(kept[0]).busy()
    for connection in kept:
        connection.close()


def test_one_that_others_use_after_its_owner_is_shared(rig, where, tracer):
    kept = two(where, tracer)
    for connection in kept:
        assert query(connection) == (1,)
    rig.settle()
    assert rig.verdicts == []
    for connection in kept:
        connection.close()


def test_one_that_is_adopted_is_none(rig, where, tracer):
    kept = two(where, tracer)
    adopt(kept[0])
    rig.settle()
    assert rig.verdicts == [LEAKED]
    for connection in kept:
        connection.close()


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",))

    def test_kept_ones_can_be_exempted_by_a_setting(self, rig, where, tracer):
        kept = two(where, tracer)
        rig.settle()
        assert rig.verdicts == []
        for connection in kept:
            connection.close()


def test_whom_the_server_refuses_is_told_who_holds(rig, few, tracer):
    kept = two(few, tracer)
    rig.clock.advance(7)
    with (
        tracer.start_as_current_span("refused") as span,
        pytest.raises(pymysql.err.OperationalError, match="max_user_connections") as caught,
    ):
        pymysql.connect(**few)
    (note,) = caught.value.__notes__
    assert note.startswith(f"2 connections of pool {few['host']}:{few['port']} held: 2 since up to 7 s by ")
    assert "test_pymysql.py:" in note
    assert "fewer" not in note
    assert [event.name for event in span.events][:1] == ["crawlo.pool.exhausted"]
    for connection in kept:
        connection.close()
    assert rig.held == []


def test_a_full_server_refuses_in_the_same_way(rig, where, few):
    with pymysql.connect(**where) as admin:
        (_, before) = query(admin, "SHOW VARIABLES LIKE 'max_connections'")
        query(admin, "SET GLOBAL max_connections = 10")
        kept = []
        try:
            with pytest.raises(pymysql.err.OperationalError, match="Too many connections") as caught:
                kept.extend(pymysql.connect(**{**few, "user": "many", "password": ""}) for _ in range(20))
        finally:
            query(admin, f"SET GLOBAL max_connections = {before}")
        assert caught.value.__notes__[0].startswith(f"{len(kept)} connections of pool ")
        assert len(kept) >= 8
        for connection in kept:
            connection.close()


def test_a_failure_of_the_server_gets_no_note(rig, where):
    with pytest.raises(pymysql.err.OperationalError) as caught:
        pymysql.connect(**{**where, "port": servers.free_port()})
    assert getattr(caught.value, "__notes__", []) == []
    with pytest.raises(pymysql.err.OperationalError, match="Access denied") as caught:
        pymysql.connect(**{**where, "password": "wr0ng"})
    assert getattr(caught.value, "__notes__", []) == []
    assert rig.held == []
    assert all("wr0ng" not in pool.name and "tests@" not in pool.name for pool in rig.runtime.pools)


@pytest.mark.parametrize("contrib_is", ["first in", "last in", "first in, first out", "last in, first out"])
def test_beside_contrib_in_every_order(rig, where, tracer, telemetry, contrib_is):
    runtime.start("what keeps it while nothing is instrumented")
    if "first in" in contrib_is:
        PyMySQLInstrumentor().uninstrument()
    Contrib().instrument()
    PyMySQLInstrumentor().instrument()
    with pymysql.connect(**where) as connection:
        assert query(connection) == (1,)
    kept = two(where, tracer)
    adopt(kept[0])
    assert len(telemetry.spans("SELECT")) == 1
    rig.settle()
    assert rig.verdicts == [LEAKED]
    for connection in kept:
        connection.close()
    assert rig.held == []
    order = [PyMySQLInstrumentor(), Contrib()]
    for one in reversed(order) if "first out" in contrib_is else order:
        one.uninstrument()
    with pymysql.connect(**where) as connection:
        assert type(connection) is pymysql.connections.Connection
        assert rig.held == []


def test_uninstrument_restores():
    names = ("__del__", "_force_close", "_execute_command", "query", "connect")
    PyMySQLInstrumentor().uninstrument()
    assert all(type(vars(pymysql.connections.Connection)[name]).__name__ == "function" for name in names)


def test_a_forked_child_holds_none_of_its_parents(tmp_path, where, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    body = f"""
import pymysql

def work():
    with trace.get_tracer("app").start_as_current_span("job"):
        kept = pymysql.connect(**{where!r})
        pid = os.fork()
        if not pid:
            del kept
            with pymysql.connect(**{where!r}) as own:
                own.ping()
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        kept._force_close()

work()
"""
    done = programs.run(tmp_path, programs.source(body), REPORT="out.json", **programs.NO_TICK)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "3\n", False)
    assert [programs.leaks(path) for path in sorted(tmp_path.glob("out*.json"))] == [[], []]

"""PyMongo against a real server."""

from __future__ import annotations

import importlib
import threading

import programs
import pymongo
import pytest
import servers
from conftest import GRACE, SCAN
from garbage import collect
from mongo_steps import EXHAUST, LEAKED, TAIL, fill, more, server, until, url
from opentelemetry.instrumentation.pymongo import PymongoInstrumentor as Contrib
from pymongo.errors import ConnectionFailure, OperationFailure, ServerSelectionTimeoutError

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.pymongo import PyMongoInstrumentor
from crawlo_otel_leaks.settings import Settings


@pytest.fixture(autouse=True)
def instrumented(rig):
    fill()
    PyMongoInstrumentor().instrument()
    yield
    PyMongoInstrumentor().uninstrument()


@pytest.fixture
def client(instrumented):
    with pymongo.MongoClient(url(), maxPoolSize=2, waitQueueTimeoutMS=50, retryReads=False) as made:
        yield made


def read_one(client):
    cursor = client.tests.numbers.find({}, **EXHAUST)
    assert next(cursor)["number"] == 0
    return cursor


def job(client, tracer):
    with tracer.start_as_current_span("job") as span:
        return read_one(client), span


def known(rig):
    (pool,) = rig.runtime.pools
    return pool


def test_operations_take_and_give_back(rig, client):
    for number in range(100):
        assert client.tests.numbers.find_one({"number": number})["number"] == number
    assert len(list(client.tests.numbers.find({}, **EXHAUST))) == 1000
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []
    assert len(rig.recorder.released_handles) > 100
    assert {handle.name for handle in rig.recorder.released_handles} == {server()}


def test_an_exhaust_cursor_that_is_never_finished_is_a_leak_until_it_is(rig, client, tracer):
    cursor, span = job(client, tracer)
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.kind, leak.reason.value) == LEAKED
    assert leak.where.text == 'assert next(cursor)["number"] == 0'
    assert leak.owner.span == span.get_span_context()
    closer = threading.Thread(target=cursor.close)
    closer.start()
    closer.join()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1
    assert rig.held == []


def test_one_that_is_closed_or_read_to_its_end_is_none(rig, client, tracer):
    cursor, _ = job(client, tracer)
    cursor.close()
    cursor, _ = job(client, tracer)
    assert len(list(cursor)) == 999
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_one_that_is_dropped_gives_back(rig, client, tracer):
    job(client, tracer)
    collect()
    rig.settle()
    assert rig.verdicts in ([], [LEAKED])
    client._process_periodic_tasks()
    assert rig.held == []


def test_one_that_others_read_on_after_its_owner_is_shared(rig, client, tracer):
    cursor, _ = job(client, tracer)
    for _ in range(20):
        next(cursor)
    rig.settle()
    assert rig.verdicts == []
    cursor.close()


def test_use_is_seen(rig, client):
    cursor = read_one(client)
    for _ in range(10):
        rig.pass_time(20, steps=10)
        for _ in range(10):
            next(cursor)
    assert {reason for _, reason in rig.verdicts} <= {"slow"}
    rig.pass_time(100, steps=50)
    assert rig.verdicts[-1] == ("db.connection", "held_too_long")
    cursor.close()


@pytest.mark.parametrize("what", ["cursor", "connection"])
def test_one_that_is_adopted_is_none(rig, client, tracer, what):
    cursor, _ = job(client, tracer)
    adopt(cursor if what == "cursor" else connection_of(cursor))
    adopt(client)  # keeps none itself
    rig.settle()
    assert rig.verdicts == []
    cursor.close()


def connection_of(cursor):
    manager = getattr(cursor, "_sock_mgr", None) or cursor._Cursor__sock_mgr
    return manager.conn if hasattr(manager, "conn") else manager.sock


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",))

    def test_kept_ones_can_be_exempted_by_a_setting(self, rig, client, tracer):
        cursor, _ = job(client, tracer)
        rig.settle()
        assert rig.verdicts == []
        cursor.close()


def test_who_waits_in_vain_is_told_who_holds(rig, client, tracer, telemetry):
    kept = [job(client, tracer) for _ in range(2)]
    rig.clock.advance(9)
    with (
        tracer.start_as_current_span("waiter") as waiter,
        pytest.raises(ConnectionFailure, match="Timed out while checking out a connection") as caught,
    ):
        client.tests.numbers.find_one({})
    (note,) = caught.value.__notes__
    assert note.startswith(f"2 of 2 connections of pool {server()} held: 2 since up to 9 s by ")
    assert "read_one (owner finished)" in note
    assert [event.name for event in waiter.events][:1] == ["crawlo.pool.exhausted"]
    assert [link.context for link in waiter.links] == [kept[0][1].get_span_context()]
    rig.runtime.tick()
    assert len(telemetry.events("crawlo.pool.exhausted")) == 1
    assert known(rig).timeouts == 1
    for cursor, _ in kept:
        cursor.close()
    assert client.tests.numbers.find_one({})["number"] == 0


def test_a_failure_of_the_server_gets_no_note(rig, client):
    with pytest.raises(OperationFailure) as caught:
        client.tests.command("no such command")
    assert getattr(caught.value, "__notes__", []) == []
    with (
        pymongo.MongoClient(port=servers.free_port(), serverSelectionTimeoutMS=50) as nowhere,
        pytest.raises(ServerSelectionTimeoutError) as caught,
    ):
        nowhere.tests.command("ping")
    assert getattr(caught.value, "__notes__", []) == []
    assert rig.held == []


def test_two_clients_of_one_server_have_a_pool_each(rig, client, tracer):
    with pymongo.MongoClient(url(), maxPoolSize=5) as other:
        cursors = [read_one(client), read_one(other)]
        assert sorted(pool.read().max for pool in rig.runtime.pools) == [2, 5]
        assert [len(pool.held) for pool in rig.runtime.pools] == [1, 1]
        cursors[0].close()
        assert {pool.read().max: len(pool.held) for pool in rig.runtime.pools} == {2: 0, 5: 1}
        cursors[1].close()


def test_a_client_that_is_closed_with_a_connection_out(rig, tracer):
    with pymongo.MongoClient(url()) as client:
        cursor, _ = job(client, tracer)
    cursor.close()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_long_operation_is_slow(rig, client, tracer):
    command = more(client.tests.command(TAIL))
    client.tests.command(command)
    waiting = threading.Thread(target=client.tests.command, args=(command,))
    waiting.start()
    until(lambda: any(handle.busy() for handle in rig.held))
    rig.pass_time(100, steps=50)
    assert rig.verdicts == [("db.connection", "slow")]
    waiting.join()
    assert rig.held == []


def test_pool_metrics_have_semantic_names(rig, tracer, telemetry):
    with pymongo.MongoClient(url(), maxPoolSize=7, minPoolSize=1) as client:
        cursor = read_one(client)
        rig.pass_time(1)
        points = telemetry.metrics()
        counts = {
            point.attributes["db.client.connection.state"]: point.value
            for point in points["db.client.connection.count"]
        }
        assert counts["used"] == 1
        assert "idle" in counts
        for metric, value in {"max": 7, "idle.max": 7, "idle.min": 1, "pending_requests": 0}.items():
            (point,) = points[f"db.client.connection.{metric}"]
            assert (point.value, point.attributes) == (value, {"db.client.connection.pool.name": server()})
        assert points["db.client.connection.create_time"][-1].count >= 1
        assert points["db.client.connection.wait_time"][-1].count >= 1
        cursor.close()
    with pymongo.MongoClient(url(), maxPoolSize=0) as unlimited:
        unlimited.tests.command("ping")
        assert None in [pool.read().max for pool in rig.runtime.pools]


@pytest.mark.parametrize("contrib_is", ["first in", "last in", "first in, first out", "last in, first out"])
def test_beside_contrib_in_every_order(rig, tracer, telemetry, contrib_is):
    from crawlo_otel_leaks import runtime  # noqa: PLC0415

    runtime.start("what keeps it while nothing is instrumented")
    if "first in" in contrib_is:
        PyMongoInstrumentor().uninstrument()
    Contrib().instrument()
    PyMongoInstrumentor().instrument()
    with pymongo.MongoClient(url()) as client:
        cursor, _ = job(client, tracer)
        rig.settle()
        assert rig.verdicts == [LEAKED]
        cursor.close()
        assert rig.held == []
        assert len([span for span in telemetry.spans("tests.find") if span.parent]) == 1
    order = [PyMongoInstrumentor(), Contrib()]
    for one in reversed(order) if "first out" in contrib_is else order:
        one.uninstrument()
    with pymongo.MongoClient(url()) as client:
        cursor, _ = job(client, tracer)
        assert rig.held == []
        cursor.close()


def test_uninstrument_restores_and_a_connection_taken_before_is_given_back_after(rig, client):
    cursor = read_one(client)
    PyMongoInstrumentor().uninstrument()
    pools = importlib.import_module("pymongo.pool").Pool
    assert all(type(member).__name__ != "Stand" for member in vars(pools).values())
    cursor.close()
    assert client.tests.numbers.find_one({})["number"] == 0
    assert rig.held == []


def test_a_forked_child_holds_none_of_its_parents(tmp_path, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    body = f"""
import pymongo

def work():
    client = pymongo.MongoClient({url()!r})
    with trace.get_tracer("app").start_as_current_span("job"):
        cursor = client.tests.numbers.find({{}}, cursor_type=pymongo.CursorType.EXHAUST, batch_size=10)
        next(cursor)
        pid = os.fork()
        if not pid:
            with pymongo.MongoClient({url()!r}) as own:
                assert own.tests.numbers.find_one({{}})["number"] == 0
            os._exit(3) if runtime.current().tracker.count("db.connection") else os._exit(4)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        cursor.close()
    client.close()

from crawlo_otel_leaks import runtime
work()
"""
    done = programs.run(tmp_path, programs.source(body), REPORT="out.json", **programs.NO_TICK)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "4\n", False), done.stderr
    assert programs.leaks(tmp_path / "out.json") == []

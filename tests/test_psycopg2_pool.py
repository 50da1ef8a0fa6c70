"""psycopg2's pools against a real server."""

from __future__ import annotations

import contextlib
import threading

import psycopg2
import pytest
import servers
from conftest import watching
from postgres_steps import LEAKED, check_told, note_of, of_server, own_metrics
from psycopg2.pool import PoolError, SimpleConnectionPool, ThreadedConnectionPool

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.psycopg2 import Psycopg2Instrumentor

pytestmark = pytest.mark.usefixtures("_watched")


@pytest.fixture
def _watched(rig):
    with watching(rig, Psycopg2Instrumentor()):
        yield


@pytest.fixture(params=[SimpleConnectionPool, ThreadedConnectionPool])
def pool(request):
    made = request.param(1, 2, servers.postgres())
    yield made
    with contextlib.suppress(PoolError):
        made.closeall()


def query(connection, text="select 1"):
    with connection.cursor() as cursor:
        cursor.execute(text)


def test_what_is_given_back_leaves_nothing(rig, pool):
    for _ in range(100):
        connection = pool.getconn()
        query(connection)
        pool.putconn(connection)
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])
    assert len(rig.recorder.released_handles) == 100


@pytest.mark.parametrize("dropped", [True, False])
def test_one_that_is_kept_or_dropped_is_a_leak_until_it_is_given_back(rig, pool, tracer, dropped):
    def job():
        connection = pool.getconn()
        query(connection)
        return None if dropped else connection

    with tracer.start_as_current_span("job") as span:
        kept = job()
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.kind, leak.reason.value, leak.name) == (*LEAKED, of_server())
    assert leak.where.text == "connection = pool.getconn()"
    assert leak.owner.span == span.get_span_context()
    (kept,) = pool._used.values()
    thread = threading.Thread(target=pool.putconn, args=(kept,))
    thread.start()
    thread.join()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1
    assert rig.held == []


@pytest.mark.parametrize("end", ["closed", "put closed", "closeall", "lost"])
def test_each_end_of_a_hold(rig, pool, end):
    kept = pool.getconn()
    if end == "closed":
        kept.close()
        assert len(rig.held) == 1, "its pool still counts it as out"
        pool.putconn(kept)
    elif end == "put closed":
        pool.putconn(conn=kept, close=True)
    elif end == "closeall":
        pool.closeall()
        assert kept.closed
        with pytest.raises(PoolError, match="connection pool is closed"):
            pool.putconn(kept)
    else:
        other = pool.getconn()
        query(other, f"select pg_terminate_backend({kept.info.backend_pid})")
        pool.putconn(other)
        with pytest.raises(psycopg2.OperationalError):
            query(kept)
        pool.putconn(kept)
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []


def test_a_release_that_fails_leaves_the_connection_out(rig, pool):
    """The server has closed it, which its rollback runs into: the pool counts it as out for ever."""
    kept, other = pool.getconn(), pool.getconn()
    query(kept)
    query(other, f"select pg_terminate_backend({kept.info.backend_pid})")
    with pytest.raises(psycopg2.OperationalError):
        pool.putconn(kept)
    assert id(kept) in pool._rused
    assert len(rig.held) == 2
    pool.putconn(other)
    pool.putconn(kept)
    assert rig.held == []


def test_a_release_that_the_pool_refuses_is_none(rig, pool):
    kept, foreign = pool.getconn(), psycopg2.connect(servers.postgres())
    with pytest.raises(PoolError, match="trying to put unkeyed connection"):
        pool.putconn(foreign)
    assert len(rig.held) == 2
    foreign.close()
    other = SimpleConnectionPool(1, 1, servers.postgres())
    with pytest.raises(PoolError, match="trying to put unkeyed connection"):
        other.putconn(kept)
    assert len(rig.held) == 1
    other.closeall()
    pool.putconn(kept)
    assert rig.held == []


def test_one_asked_for_twice_by_its_key_is_held_once(rig, pool):
    kept = pool.getconn("key")
    assert pool.getconn("key") is kept
    assert len(rig.held) == 1
    pool.putconn(kept, "key")
    assert rig.held == []


def test_who_asks_in_vain_is_told_who_holds(rig, pool, tracer, telemetry):
    with tracer.start_as_current_span("hoarder") as hoarder:
        kept = [pool.getconn() for _ in range(2)]
    rig.clock.advance(312)
    with tracer.start_as_current_span("waiter") as waiter, pytest.raises(PoolError) as caught:
        pool.getconn()
    assert str(caught.value) == "connection pool exhausted"
    assert note_of(caught.value).startswith(
        f"2 of 2 connections of pool {of_server()} held: 2 since up to 312 s by test_psycopg2_pool.py:",
    )
    check_told(rig, telemetry, caught.value, waiter, hoarder)
    for connection in kept:
        pool.putconn(connection)


def test_what_is_no_want_of_a_connection_gets_no_note(rig, pool):
    pool._kwargs["port"] = servers.free_port()
    kept = pool.getconn()
    with pytest.raises(psycopg2.OperationalError) as caught:
        pool.getconn()
    assert getattr(caught.value, "__notes__", []) == []
    pool.putconn(kept)
    pool.closeall()
    with pytest.raises(PoolError, match="connection pool is closed") as caught:
        pool.getconn()
    assert getattr(caught.value, "__notes__", []) == []


@pytest.mark.parametrize("adopted", [True, False])
def test_a_listener_is_kept_by_design_when_it_is_adopted(rig, pool, tracer, adopted):
    def listen():
        with tracer.start_as_current_span("job"):
            connection = pool.getconn()
            query(connection, "listen news")
            return adopt(connection) if adopted else connection

    kept = listen()
    rig.settle()
    assert rig.verdicts == ([] if adopted else [LEAKED])
    pool.putconn(kept)


def test_metrics_have_semantic_names(rig, telemetry):
    before = own_metrics(telemetry, of_server())
    pool = SimpleConnectionPool(3, 7, servers.postgres())
    kept = pool.getconn()
    pool.putconn(pool.getconn())
    rig.pass_time(1)
    after = own_metrics(telemetry, of_server())
    sizes = {name: value for name, value in after.items() if not name.endswith(("_time", "timeouts"))}
    assert sizes == {"count idle": 2, "count used": 1, "max": 7, "idle.max": 3, "pending_requests": 0}
    more = {name: after[name] - before.get(name, 0) for name in ("create_time", "wait_time", "use_time")}
    assert more == {"create_time": 3, "wait_time": 2, "use_time": 1}
    pool.putconn(kept)
    pool.closeall()

"""psycopg_pool's sync pools against a real server."""

from __future__ import annotations

import threading

import psycopg_pool
import pytest
import servers
from conftest import GRACE, SCAN, watching
from postgres_steps import LEAKED, check_told, note_of, of_server, own_metrics, wait_until
from psycopg_pool import ConnectionPool, NullConnectionPool

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.psycopg import PsycopgInstrumentor
from crawlo_otel_leaks.instrumentation.psycopg_pool import PsycopgPoolInstrumentor
from crawlo_otel_leaks.settings import Settings

pytestmark = pytest.mark.usefixtures("_watched")


@pytest.fixture
def _watched(rig):
    with watching(rig, PsycopgInstrumentor(), PsycopgPoolInstrumentor()):
        yield


def a_pool(kind=ConnectionPool, **options):
    sizes = {"min_size": 1, "max_size": 2} if kind is ConnectionPool else {"max_size": 2}
    return kind(servers.postgres(), **{**sizes, "open": True, **options})


@pytest.fixture(params=[ConnectionPool, NullConnectionPool])
def pool(request):
    with a_pool(request.param) as made:
        yield made


def test_what_is_given_back_leaves_nothing(rig, pool):
    for number in range(100):
        with pool.connection() as connection:
            assert connection.execute("select %s", [number]).fetchone() == (number,)
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])
    assert len(rig.recorder.released_handles) == 100


def test_one_that_is_kept_is_a_leak_until_it_is_given_back(rig, pool, tracer):
    def job():
        return pool.getconn()

    with tracer.start_as_current_span("job") as span:
        kept = job()
        kept.execute("select 1")
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.kind, leak.reason.value, leak.name) == (*LEAKED, of_server())
    assert leak.where.text == "return pool.getconn()"
    assert leak.owner.span == span.get_span_context()
    pool.putconn(kept)
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1
    assert rig.held == []


def test_one_that_is_dropped_is_abandoned_while_its_pool_stays_charged(rig, pool, tracer, telemetry):
    for _ in range(2):
        with tracer.start_as_current_span("job"):
            pool.getconn()
        rig.clock.advance(10)
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")] * 2
    assert own_metrics(telemetry, of_server())["count used"] == 2
    with pytest.raises(psycopg_pool.PoolTimeout) as caught:
        pool.getconn(timeout=0.05)
    assert note_of(caught.value).startswith(f"2 of 2 connections of pool {of_server()} held: 2 since up to 21 s by ")
    points = telemetry.metrics()["crawlo.pool.exhaustion.eta"]
    assert [point.value for point in points] == [0.0]


def test_one_that_an_exceptions_traceback_keeps_is_no_abandoned_one_until_that_is_gone(rig, pool):
    def fails():
        connection = pool.getconn()
        raise RuntimeError(str(connection.info.status))

    def job():
        try:
            fails()
        except RuntimeError as error:
            return error

    kept = [job()]
    rig.settle()
    assert rig.verdicts == []
    kept.clear()
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]


def test_released_in_another_thread(rig, pool):
    kept = pool.getconn()
    thread = threading.Thread(target=pool.putconn, args=(kept,))
    thread.start()
    thread.join()
    assert rig.held == []


def test_a_release_that_the_pool_refuses_is_none(rig, pool):
    with a_pool() as other:
        kept = other.getconn()
        with pytest.raises(ValueError, match="it comes from pool"):
            pool.putconn(kept)
        assert len(rig.held) == 1
        other.putconn(conn=kept)
        with pytest.raises(ValueError, match="doesn't come from any pool"):
            other.putconn(kept)
        assert rig.held == []


@pytest.mark.parametrize("end", ["closed", "returned by close", "pool closed", "reset"])
def test_each_end_of_a_hold(rig, end):
    if end == "returned by close" and not hasattr(psycopg_pool.ConnectionPool("", open=False), "close_returns"):
        pytest.skip("this release has no close_returns")
    options = {"returned by close": {"close_returns": True}, "reset": {"reset": lambda _: None}}
    pool = a_pool(**options.get(end, {}))
    kept = pool.getconn()
    if end == "closed":
        kept.close()
        assert len(rig.held) == 1, "its pool still counts it as out"
        pool.putconn(kept)
    elif end == "returned by close":
        kept.close()
        assert not kept.closed
    elif end == "pool closed":
        pool.close()
        pool.putconn(kept)
    else:
        pool.putconn(kept)
    assert rig.held == []
    pool.close()
    rig.settle()
    assert rig.verdicts == []


def test_one_that_is_used_by_another_trace_is_shared(rig, pool, tracer):
    with tracer.start_as_current_span("first"):
        kept = pool.getconn()
    with tracer.start_as_current_span("second"):
        kept.execute("select 1")
    rig.settle()
    assert rig.verdicts in ([], [("db.connection", "held_too_long")])
    pool.putconn(kept)


def test_one_that_is_used_now_and_then_is_not_held_too_long(rig, pool):
    def take():
        return pool.getconn()

    kept = take()
    for _ in range(10):
        rig.pass_time(20, steps=4)
        kept.execute("select 1")
    assert [verdict for verdict in rig.verdicts if verdict[1] != "slow"] == []
    rig.pass_time(100, steps=20)
    assert rig.verdicts[-1] == ("db.connection", "held_too_long")
    pool.putconn(kept)


def test_one_at_work_in_a_long_query_is_slow(rig, pool):
    kept = []

    def take():
        kept.append(pool.getconn())

    take()
    thread = threading.Thread(target=kept[0].execute, args=("select pg_sleep(2)",))
    thread.start()
    wait_until(kept[0].lock.locked)
    rig.pass_time(100, steps=20)
    assert rig.verdicts == [("db.connection", "slow")]
    thread.join()
    rig.pass_time(100, steps=20)
    assert rig.verdicts[-1] == ("db.connection", "held_too_long")
    pool.putconn(kept.pop())


@pytest.mark.parametrize("adopted", [True, False])
def test_a_listener_is_kept_by_design_when_it_is_adopted(rig, pool, tracer, adopted):
    def listen():
        with tracer.start_as_current_span("job"):
            connection = pool.getconn()
            connection.execute("listen news")
            if adopted:
                adopt(connection)
            return connection

    kept = listen()
    rig.settle()
    assert rig.verdicts == ([] if adopted else [LEAKED])
    pool.putconn(kept)


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",))

    def test_it_can_be_exempted_by_a_setting(self, rig, pool, tracer):
        with tracer.start_as_current_span("job"):
            kept = pool.getconn()
        rig.settle()
        assert rig.verdicts == []
        pool.putconn(kept)


def test_who_waits_in_vain_is_told_who_holds(rig, pool, tracer, telemetry):
    with tracer.start_as_current_span("hoarder") as hoarder:
        kept = [pool.getconn() for _ in range(2)]
    rig.clock.advance(312)
    with (
        tracer.start_as_current_span("waiter") as waiter,
        pytest.raises(psycopg_pool.PoolTimeout) as caught,
        pool.connection(timeout=0.05),
    ):
        pass
    assert str(caught.value) == "couldn't get a connection after 0.05 sec"
    assert note_of(caught.value).startswith(
        f"2 of 2 connections of pool {of_server()} held: 2 since up to 312 s by test_psycopg_pool.py:",
    )
    check_told(rig, telemetry, caught.value, waiter, hoarder)
    for connection in kept:
        pool.putconn(connection)


def test_a_queue_that_is_full_is_told_too(rig):
    with a_pool(max_size=1, max_waiting=1, name="the app's") as pool:
        kept = pool.getconn()
        got = []
        waiter = threading.Thread(target=lambda: got.append(pool.getconn()))
        waiter.start()
        wait_until(lambda: pool.get_stats().get("requests_waiting"))
        with pytest.raises(psycopg_pool.TooManyRequests, match="requests waiting") as caught:
            pool.getconn()
        assert note_of(caught.value).startswith("1 of 1 connections of pool the app's held: 1 since ")
        pool.putconn(kept)
        waiter.join()
        pool.putconn(got.pop())


def test_what_is_no_want_of_a_connection_gets_no_note(rig):
    with a_pool(kwargs={"port": servers.free_port()}, reconnect_timeout=0.1) as pool:
        with pytest.raises(psycopg_pool.PoolTimeout) as caught:
            pool.getconn(timeout=0.2)
        assert getattr(caught.value, "__notes__", []) == []
    with pytest.raises(psycopg_pool.PoolClosed) as caught:
        pool.getconn()
    assert getattr(caught.value, "__notes__", []) == []
    assert len(rig.runtime.tracker.exhausted) == 0


def test_names_are_the_programs_own_or_the_servers_and_no_secrets(rig):
    pools = [a_pool(open=False), a_pool(open=False, name="app"), a_pool(open=False, kwargs={"dbname": "other"})]
    asked = [rig.runtime.pools.of(pool, rig.runtime.finders[-1].__self__._make).name for pool in pools]
    assert asked == [of_server(), "app", of_server().replace("/postgres", "/other")]


def test_metrics_have_semantic_names(rig, telemetry):
    with a_pool(min_size=3, max_size=7) as pool:
        pool.wait()
        before = own_metrics(telemetry, of_server())
        kept = pool.getconn()
        with pool.connection():
            pass
        rig.pass_time(1)
        after = own_metrics(telemetry, of_server())
        sizes = {name: value for name, value in after.items() if not name.endswith("_time")}
        assert {name: sizes.get(name) for name in ("count idle", "count used", "max", "idle.max", "idle.min")} == {
            "count idle": 2,
            "count used": 1,
            "max": 7,
            "idle.max": 7,
            "idle.min": 3,
        }
        more = {name: after[name] - before.get(name, 0) for name in ("create_time", "wait_time", "use_time")}
        assert more == {"create_time": 3, "wait_time": 2, "use_time": 1}
        pool.putconn(kept)

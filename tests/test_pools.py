"""Pools, waiting and blame, without a library: what each tells, and when a pool will be empty."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest
from opentelemetry import trace

from crawlo_otel_leaks import blame
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.pool import Limits, Pool, Pools
from crawlo_otel_leaks.stock import PLAIN


class LibraryPool:
    """A pool of no library: a list of what is idle."""

    def __init__(self, size):
        self.size, self.idle = size, [Connection() for _ in range(size)]

    def get(self):
        if not self.idle:
            raise NoneLeftError("nothing left")
        return self.idle.pop()

    async def get_async(self):
        while not self.idle:  # noqa: ASYNC110  (a test's pool need not be good)
            await asyncio.sleep(0)
        return self.idle.pop()

    def put(self, connection):
        self.idle.append(connection)


class Connection:
    busy = False


class NoneLeftError(Exception):
    pass


class Watch(PoolWatch):
    kind = "db.connection"
    use_is_seen = True

    def name(self, pool):
        return "db:5432/app"

    def limits(self, pool):
        return Limits(max=pool.size, idle=len(pool.idle), idle_min=0, idle_max=pool.size)

    def refused(self, pool, error):
        return isinstance(error, NoneLeftError)

    def working(self, connection):
        return connection.busy


IN_C = ("ask", "begin", "wait_for", "got", "gave_back", "_end")


@pytest.fixture(params=["python", "c"])
def make(rig, request):
    """Makes watches, of either kind."""
    if request.param == "c" and rig.runtime.tracker.accelerator is None:
        pytest.skip("crawlo-otel-leaks-accelerator is not installed: make accelerator")

    def made(kind=Watch):
        watch = kind(rig.runtime)
        if request.param == "c":
            watch.quicken(*IN_C)
        return watch

    return made


@pytest.fixture
def watch(make):
    return make()


def get(watch, pool):
    return watch.acquire(pool.get, pool, (), {})


def put(watch, pool, connection):
    watch.release(pool.put, pool, (connection,), {})


def test_what_is_given_back_is_no_leak_and_free_again(rig, watch):
    pool = LibraryPool(1)
    for _ in range(50):
        put(watch, pool, get(watch, pool))
    rig.settle()
    assert rig.verdicts == []
    (known,) = rig.runtime.pools
    assert (len(known.held), len(known.waiting), known.timeouts) == (0, 0, 0)


def test_the_waiter_in_vain_is_told_who_holds_and_its_exception_is_the_pools_own(rig, watch, tracer, telemetry):
    pool = LibraryPool(2)
    with tracer.start_as_current_span("hoarder"):
        kept = [get(watch, pool) for _ in range(2)]
    rig.clock.advance(31)
    with tracer.start_as_current_span("waiter") as waiter, pytest.raises(NoneLeftError, match="nothing left") as caught:
        get(watch, pool)
    (note,) = caught.value.__notes__
    assert note.startswith("2 of 2 connections of pool db:5432/app held: 2 since up to 31 s by ")
    assert [event.name for event in waiter.events][:1] == ["crawlo.pool.exhausted"]
    rig.runtime.tick()
    (event,) = telemetry.events("crawlo.pool.exhausted")
    assert event.attributes["crawlo.pool.limit"] == 2
    assert event.attributes["crawlo.pool.holders"] == (note.partition("held: ")[2].partition(";")[0],)
    assert event.body == note
    assert (len(kept), [known.timeouts for known in rig.runtime.pools]) == (2, [1])


def test_another_failure_gets_no_note_and_counts_as_none(rig, watch):
    pool = LibraryPool(1)

    def broken():
        raise OSError("server gone")

    with pytest.raises(OSError, match="server gone") as caught:
        watch.acquire(broken, pool, (), {})
    assert getattr(caught.value, "__notes__", []) == []
    (known,) = rig.runtime.pools
    assert (known.timeouts, len(known.waiting)) == (0, 0)


def test_who_waits_long_is_told_once_while_waiting(rig, watch, telemetry):
    pool = LibraryPool(1)
    kept = get(watch, pool)

    async def main():
        task = asyncio.create_task(watch.acquire_async(pool.get_async, pool, (), {}))
        await asyncio.sleep(0)
        rig.pass_time(4)
        assert telemetry.events("crawlo.pool.exhausted") == []
        rig.pass_time(4)
        rig.pass_time(4)
        assert len(telemetry.events("crawlo.pool.exhausted")) == 1
        put(watch, pool, kept)
        return await task

    assert asyncio.run(main()) is kept
    put(watch, pool, kept)
    rig.runtime.tick()
    assert [known.timeouts for known in rig.runtime.pools] == [0]


def test_who_is_cancelled_after_a_long_wait_is_told_and_one_cancelled_soon_is_not(rig, watch):
    pool = LibraryPool(1)
    kept = get(watch, pool)

    async def cancelled_after(seconds):
        task = asyncio.create_task(watch.acquire_async(pool.get_async, pool, (), {}))
        await asyncio.sleep(0)
        rig.clock.advance(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled_after(1))
    assert len(rig.runtime.tracker.exhausted) == 0
    asyncio.run(cancelled_after(6))
    (told,) = rig.runtime.tracker.exhausted
    assert (told.held, told.limit, told.waited) == (1, 1, pytest.approx(6))
    put(watch, pool, kept)


def test_a_collected_connection_is_abandoned_while_its_pool_stays_charged(rig, watch):
    pool = LibraryPool(2)
    get(watch, pool)
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]
    (known,) = rig.runtime.pools
    assert len(known.held) == 1


def test_a_connection_at_work_is_slow(rig, watch):
    pool = LibraryPool(1)
    kept = get(watch, pool)
    kept.busy = True
    rig.pass_time(100, steps=50)
    assert rig.verdicts == [("db.connection", "slow")]
    kept.busy = False
    rig.pass_time(100, steps=50)
    assert rig.verdicts[-1] == ("db.connection", "held_too_long")
    assert watch.find(kept).label() == "db:5432/app"
    put(watch, pool, kept)
    assert watch.find(kept) is None


def test_one_whose_loop_is_closed_can_never_be_given_back(rig, watch):
    pool, loop = LibraryPool(1), asyncio.new_event_loop()
    kept = get(watch, pool)
    kept._loop = loop
    rig.settle()
    assert rig.verdicts == []
    loop.close()
    rig.settle()
    assert rig.verdicts[-1] == ("db.connection", "loop_closed")
    put(watch, pool, kept)


def test_when_the_pool_will_be_empty_at_the_present_rate_of_loss():
    library = LibraryPool(10)
    pool = Pool("db.connection", "p", lambda: Limits(max=library.size), PLAIN)
    assert pool.eta([], 100.0) is None
    assert pool.eta([90.0], 100.0) is None
    assert pool.eta([80.0, 90.0], 100.0) == pytest.approx(8 * 20.0)
    assert pool.eta([80.0, 90.0], 200.0) == pytest.approx(8 * 120.0), "nothing more is lost: it takes longer"
    assert pool.eta([float(second) for second in range(10)], 10.0) == 0.0
    gone = Pool("db.connection", "p", lambda: None, PLAIN)
    assert gone.eta([80.0, 90.0], 100.0) is None


def test_the_eta_is_a_gauge_while_connections_are_lost(rig, watch, tracer, telemetry):
    pool = LibraryPool(10)
    kept = []
    for _ in range(3):
        with tracer.start_as_current_span("job"):
            kept.append(get(watch, pool))
        rig.clock.advance(10)
    rig.settle()
    (point,) = telemetry.metrics()["crawlo.pool.exhaustion.eta"]
    assert point.attributes == {"db.client.connection.pool.name": "db:5432/app"}
    assert 0 < point.value < 1000
    for connection in kept:
        put(watch, pool, connection)
    rig.settle()
    assert "crawlo.pool.exhaustion.eta" not in telemetry.metrics()


def test_what_a_library_emits_itself_is_left_to_it(rig, telemetry):
    class Silent(Watch):
        def silent(self):
            return frozenset({"db.client.connection.max", "db.client.connection.wait_time"})

    watch, pool = Silent(rig.runtime), LibraryPool(1)
    before = telemetry.metrics().get("db.client.connection.wait_time", [])
    put(watch, pool, get(watch, pool))
    rig.pass_time(1)
    points = telemetry.metrics()
    assert "db.client.connection.max" not in points
    assert len(points.get("db.client.connection.wait_time", [])) == len(before)
    assert "db.client.connection.pending_requests" in points


def test_a_pool_is_not_kept_alive():
    pools, library = Pools(PLAIN), LibraryPool(1)
    made = pools.of(library, lambda _: Pool("db.connection", "p", lambda: None, PLAIN))
    assert pools.of(library, lambda _: None) is made
    del library
    assert list(pools) == []
    assert list(pools.late(1e9, 0.0)) == []


def test_many_holders_are_summed_up():
    context = trace.SpanContext(7, 9, is_remote=False)
    groups = tuple(blame.Holders(8 - n, 10.0, f"a.py:{n} f", finished=n == 0, span=context) for n in range(7))
    told = blame.Exhaustion("connections of pool p", "db.connection", "p", 35, 40, 1.0, groups, context)
    text = str(told)
    assert text.startswith("35 of 40 connections of pool p held: 8 since up to 10 s by a.py:0 f (owner finished), 7 ")
    assert text.endswith("5 elsewhere; trace 00000000000000000000000000000007")


def test_an_empty_hand_and_a_limitless_pool_are_told_too():
    told = blame.Exhaustion("connections of pool p", "db.connection", "p", 0, None, 1.0, (), trace.INVALID_SPAN_CONTEXT)
    assert str(told) == "0 connections of pool p held"
    assert "crawlo.pool.limit" not in told.attributes()


def test_a_failure_of_ours_leaves_the_host_alone(rig, make, caplog):
    class Broken(Watch):
        def name(self, pool):
            raise RuntimeError("another release of the library")

    broken, pool = make(Broken), LibraryPool(1)
    connection = get(broken, pool)
    put(broken, pool, connection)
    assert "Broken wait failed and goes on without tracking: RuntimeError('another release" in caplog.text
    assert rig.runtime.tracker.errors == 1
    rig.runtime.tracker.errors = 0


def test_what_a_failure_of_ours_leaves_half_done_is_not_held(rig, make):
    watch, pool = make(), LibraryPool(1)
    kept, rig.runtime.tracker.clock = rig.runtime.tracker.clock, lambda: 1 / 0
    connection = get(watch, pool)
    rig.runtime.tracker.clock = kept
    put(watch, pool, connection)
    assert (rig.held, rig.runtime.tracker.errors) == ([], 1)
    rig.runtime.tracker.errors = 0


def test_what_takes_no_weak_reference_is_told_and_not_watched(rig, make):
    watch, pool = make(), LibraryPool(1)
    pool.idle = [7]
    put(watch, pool, get(watch, pool))
    (known,) = rig.runtime.pools
    assert (rig.held, len(known.waiting), rig.runtime.tracker.errors) == ([], 0, 1)
    rig.runtime.tracker.errors = 0


def test_a_pool_at_the_place_of_one_that_is_gone_is_another(rig, make):
    watch, gone, pool = make(), LibraryPool(1), LibraryPool(2)
    put(watch, gone, get(watch, gone))
    rig.runtime.pools.by_identity[id(pool)] = rig.runtime.pools.by_identity[id(gone)]
    put(watch, pool, get(watch, pool))
    known = rig.runtime.pools.known(pool)
    assert known.read().max == 2
    assert len(known.uses) == 1


def test_telemetrys_own_connections_are_not_watched(rig, watch):
    from opentelemetry.instrumentation.utils import suppress_instrumentation  # noqa: PLC0415

    pool = LibraryPool(1)
    with suppress_instrumentation():
        put(watch, pool, get(watch, pool))
    assert list(rig.runtime.pools) == []


def test_notes_are_an_attribute_where_exceptions_take_none(monkeypatch, caplog):
    class Old(BaseException):
        add_note = property()

    error = Old("x")
    told = blame.Exhaustion("connections of pool p", "db.connection", "p", 0, 1, 1.0, (), trace.INVALID_SPAN_CONTEXT)
    blame.note(error, told)
    assert error.__notes__ == ["0 of 1 connections of pool p held"]
    assert "0 of 1 connections of pool p held" in caplog.text


def test_a_handle_without_connection_says_nothing(rig, watch):
    handle = ConnectionHandle("db.connection")
    handle.connection, handle.pool = None, SimpleNamespace(watch=watch, name="p")
    assert rig.runtime.tracker.acquire(handle, sys._getframe()) is handle
    assert handle.referent() is None
    assert not handle.busy()
    assert handle.progress().token is None

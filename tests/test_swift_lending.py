"""What stands in front of a pool's methods, in C and in Python; of real pools, the libraries' own tests ask."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import weakref

import pytest
from conftest import needs_accelerator
from garbage import collect
from lending_steps import Connection, Pool, Special, made
from opentelemetry.instrumentation.utils import suppress_instrumentation
from swift_steps import forget_times, left_behind, line_of

from crawlo_otel_leaks.instrumentation._direct import acquiring, releasing

needs_accelerator()


@pytest.fixture(params=["in C", "in Python"])
def parts(monkeypatch, request):
    parts = made(in_c=request.param == "in C")
    monkeypatch.setattr(Pool, "take", acquiring(parts.watch)(Pool.take, parts.live))
    monkeypatch.setattr(Pool, "give_back", releasing(parts.watch)(Pool.give_back, parts.live))
    return parts


@pytest.fixture
def pool(parts):
    """Return a pool that was asked before: the first time, it is Python that makes it known."""
    pool = Pool()
    pool.give_back(pool.take())
    assert parts.held() == []
    return pool


def keeper(pool):
    return pool.take()


def test_a_connection_belongs_to_where_it_was_taken(parts, pool):
    connection = pool.take()  # here
    line = inspect.currentframe().f_lineno - 1
    (handle,) = parts.held()
    assert line_of(handle) == line
    assert (handle.name, handle.referent()) == ("pool", connection)
    assert pool.give_back(connection) == "given back"
    assert parts.held() == []
    assert parts.tracker.errors == 0


def test_taking_and_giving_back_leaves_nothing_behind(parts, pool):
    assert left_behind(lambda: pool.give_back(pool.take()), lambda: forget_times(parts.watch)) < 100


def test_a_connection_is_given_back_by_whatever_name(parts, pool):
    pool.give_back(connection=pool.take())
    assert parts.held() == []
    with pytest.raises(TypeError, match="connection"):
        pool.give_back()
    assert parts.tracker.errors == 0


def test_a_pool_that_has_none_left_raises_its_own_error_and_is_told_so(parts, pool):
    pool.take()
    with pytest.raises(IndexError, match="none left") as caught:
        pool.take()
    (known,) = parts.watch.pools
    assert (known.timeouts, len(known.waiting), len(parts.tracker.exhausted)) == (1, 0, 1)
    assert caught.value.__context__ is None
    assert len(parts.held()) == 1


def test_what_fails_for_another_reason_is_no_shortage(parts, pool):
    pool.take()
    with pytest.raises(OSError, match="none left"):
        pool.take(OSError)
    (known,) = parts.watch.pools
    assert (known.timeouts, len(known.waiting)) == (0, 0)


def test_whoever_keeps_its_connection_is_known_by_what_it_is_called(parts, pool):
    keeper(pool)
    assert [type(handle) for handle in parts.held()] == [Special]


def test_a_pool_that_is_asked_from_elsewhere_is_for_python(parts, pool):
    (known,) = parts.watch.pools
    known.stacked = False
    pool.give_back(pool.take())
    assert parts.held() == []
    assert len(known.uses) == 2


def test_telemetry_s_own_connection_is_not_noted(parts, pool):
    with suppress_instrumentation():
        connection = pool.take()
    assert parts.held() == []
    pool.give_back(connection)
    assert parts.tracker.errors == 0


def test_once_it_is_switched_off_all_goes_straight_through(parts, pool):
    parts.live.clear()
    pool.give_back(pool.take())
    (known,) = parts.watch.pools
    assert (parts.held(), len(known.uses)) == ([], 1)


def test_a_failure_of_ours_is_told_and_the_host_has_its_connection(parts, pool):
    parts.watch.pools.by_identity[id(pool)] = (weakref.ref(pool), "no pool")
    connection = pool.take()
    assert isinstance(connection, Connection)
    assert pool.give_back(connection) == "given back"
    assert parts.tracker.errors == 1


def test_what_ends_the_program_goes_through(parts, pool):
    def interrupted():
        raise KeyboardInterrupt

    parts.tracker.clock = interrupted
    with pytest.raises(KeyboardInterrupt):
        pool.take()
    assert parts.tracker.errors == 0


def test_a_handle_that_somebody_has_is_left_as_it_is(parts, pool):
    handles = []
    for _ in range(4):
        connection = pool.take()
        handles += parts.held()
        pool.give_back(connection)
        assert len(set(handles)) == len(handles)
    assert {handle.name for handle in handles} == {"pool"}
    assert all(handle.held is not None for handle in handles)


def test_what_goes_with_a_handle_may_take_another(parts, pool):
    ran, other = [], Pool()
    other.give_back(other.take())

    class Last:
        def __del__(self):
            ran.append(other.give_back(other.take()))

    for turn in range(4):  # of one site, which keeps its latest handle
        connection = pool.take()
        if turn == 0:
            parts.held()[0].scope = Last()
        pool.give_back(connection)
    collect()
    assert (ran, parts.held(), parts.tracker.errors) == (["given back"], [], 0)


def test_in_c_it_shows_itself_as_the_method(monkeypatch):
    own, parts = Pool.take, made(in_c=True)
    monkeypatch.setattr(Pool, "take", acquiring(parts.watch)(own, parts.live))
    assert (Pool.take.__name__, Pool.take.__doc__, Pool.take.__wrapped__) == ("take", own.__doc__, own)
    assert (inspect.signature(Pool.take), str(inspect.signature(Pool().take))) == (
        inspect.signature(own),
        "(error=<class 'IndexError'>)",
    )
    for same in (copy.copy(Pool.take), pickle.loads(pickle.dumps(Pool.take))):
        assert same is Pool.take


def test_nobody_goes_past_it_who_calls_or_binds_it_by_name(parts, pool):
    class Bound(Pool):
        grab = functools.partialmethod(Pool.take)

    for take in (Pool.take.__call__, Pool.take.__get__(pool), Pool.take.__get__(None, Pool), Bound.grab):
        pool.give_back(take() if inspect.ismethod(take) else take(pool))
    (known,) = parts.watch.pools
    assert len(known.uses) == 5


@pytest.mark.parametrize("in_c", [True, False])
def test_other_ways_of_lending(monkeypatch, in_c):
    parts = made(in_c=in_c)
    watch, live, bare = parts.watch, parts.live, []

    def put_back(own, live):
        def stand(pool):
            if live:
                watch.gave_back(pool.out)
            return own(pool)

        return stand

    def work(own, live):
        def stand(connection):
            if live and not watch.note_use(connection):
                bare.append(connection)
            return own(connection)

        return stand

    monkeypatch.setattr(Pool, "take", acquiring(watch)(Pool.take, live))
    parts.stand(monkeypatch, Pool, "put_back", watch.way("give_back", put_back, "out"))
    parts.stand(monkeypatch, Connection, "work", watch.way("use", work))
    pool, other = Pool(), Connection()
    assert (other.work(), bare) == ("done", [other])
    pool.take()
    assert pool.put_back() == "given back"
    assert parts.held() == []
    live.clear()
    assert (other.work(), bare) == ("done", [other])
    assert parts.tracker.errors == 0


@pytest.mark.parametrize(("role", "detail"), [("borrow", None), ("wait", None), ("hold", "asked")])
def test_a_way_that_there_is_not_is_refused(role, detail):
    watch = made(in_c=True).watch
    with pytest.raises(ValueError, match=role):
        watch.way(role, acquiring(watch), detail)(Pool.take, [True])


@pytest.mark.parametrize(("detail", "errors"), [("out", 0), ("missing", 1)])
def test_an_end_that_is_not_plain_is_for_python_and_one_that_cannot_be_told_is_our_failure(monkeypatch, detail, errors):
    parts, told = made(in_c=True), []
    parts.watch.quicken("got", ended=lambda *things: told.append(things))
    parts.stand(monkeypatch, Pool, "take", parts.watch.way("take", acquiring(parts.watch)))
    parts.stand(monkeypatch, Pool, "put_back", parts.watch.way("end", lambda own, live: own, detail))
    pool = Pool()
    for _ in range(2):
        connection = pool.take()
        assert (pool.put_back(), told, parts.tracker.errors) == ("given back", [], errors)
        assert len(parts.held()) == errors
        if errors:
            return
    assert pool.put_back() == "given back"
    assert told == [(connection, pool)]
    parts.live.clear()
    assert (pool.put_back(), len(told)) == ("given back", 1)

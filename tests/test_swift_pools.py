"""What the accelerator records of pools; that it answers as Python does, tests/test_pools.py asks of both."""

from __future__ import annotations

import sys
import weakref
from types import SimpleNamespace

import pytest
from conftest import needs_accelerator
from garbage import collect
from swift_steps import forget_times, left_behind

from crawlo_otel_leaks import semconv, swift
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pool_book import PoolBook
from crawlo_otel_leaks.model import Handle
from crawlo_otel_leaks.pool import Limits, Pools
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.tracker import Tracker

needs_accelerator()


class Book(PoolBook):
    kind = semconv.DB_CONNECTION

    def name(self, pool):
        return "pool"

    def limits(self, pool):
        return Limits()


class Thing:
    """A pool, or a connection."""


def book(**changed):
    """Return a record that is kept in C, with some of what that is given changed."""
    tracker = Tracker(Sites())
    assert swift.accelerate(tracker)
    taking = tracker.accelerator.taking
    tracker.accelerator = tracker.accelerator._replace(taking=lambda **parts: taking(**{**parts, **changed}))
    made = Book(SimpleNamespace(tracker=tracker, settings=Settings(), pools=Pools(tracker.stock), finders=[]))
    made.quicken("ask", "begin", "wait_for", "got", "gave_back", "note_use")
    return made


def in_and_out(record, pool, connection):
    record.got(record.begin(pool, sys._getframe()), connection)
    record.gave_back(connection)


def test_a_record_in_c_leaves_nothing_behind():
    record, pool, connection = book(), Thing(), Thing()
    assert left_behind(lambda: in_and_out(record, pool, connection), lambda: forget_times(record)) < 100


def test_a_record_in_c_dies_with_its_own():
    record = book()
    in_and_out(record, Thing(), Thing())
    gone = weakref.ref(record)
    del record
    collect()
    assert gone() is None


@pytest.mark.parametrize(
    "part",
    ["swift", "template", "handles", "refs", "pools", "aside", "askers", "pool_type", "handle_type"],
)
def test_a_record_in_c_takes_only_what_it_can_work_with(part):
    with pytest.raises(TypeError):
        book(**{part: None})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("begin", (None,)), ("wait_for", ()), ("got", (None,)), ("got", (Handle(semconv.CUSTOM), None, None))],
)
def test_a_record_in_c_says_what_it_expects(name, arguments):
    with pytest.raises(TypeError, match="expected"):
        getattr(book(), name)(*arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ask", (7,)),
        ("begin", (object(), sys._getframe())),
        ("wait_for", (Thing(), Handle(semconv.CUSTOM))),
        ("got", (Handle(semconv.CUSTOM), Thing())),
        ("got", (ConnectionHandle(semconv.DB_CONNECTION), Thing())),
    ],
)
def test_a_record_in_c_tells_its_failures_and_raises_none(name, arguments):
    record = book()
    assert getattr(record, name)(*arguments) is None
    assert record.tracker.errors == 1


def test_a_record_in_c_counts_uses_only_where_they_are_counted():
    record, pool, connection = book(), Thing(), Thing()
    assert record.note_use(connection) is False
    record.got(record.begin(pool, sys._getframe()), connection)
    assert record.note_use(connection) is None
    assert record.tracker.errors == 1
    record.gave_back(connection)


def test_what_ends_the_program_goes_through_a_record_in_c():
    def interrupted():
        raise KeyboardInterrupt

    record = book()
    record.tracker.clock = interrupted
    with pytest.raises(KeyboardInterrupt):
        record.begin(Thing(), sys._getframe())
    assert record.tracker.errors == 0

"""What a point of the series says beside memory and descriptors, and what of it is a suspect."""

from __future__ import annotations

import socket
import sys

import pytest
from test_vitals import _NoHandles, grow

from crawlo_otel_leaks import semconv, vitals
from crawlo_otel_leaks.model import Handle
from crawlo_otel_leaks.process import UNCLASSIFIED, Descriptor
from crawlo_otel_leaks.vitals import INTERVAL, Point


def newest(rig):
    rig.pass_time(INTERVAL)
    return rig.runtime.vitals.series.recent[-1]


def test_a_socket_more_is_a_socket_more(rig):
    before = newest(rig).sockets
    with socket.socket():
        assert newest(rig).sockets == before + 1
    assert newest(rig).sockets == before


@pytest.mark.parametrize("held", [None, {0: Descriptor("socket", 1, 0), 1: Descriptor(UNCLASSIFIED, 0, 0)}])
def test_sockets_that_could_not_all_be_looked_at_are_not_counted(rig, held):
    rig.runtime.vitals._descriptors = lambda: held
    assert newest(rig).sockets is None


def test_connections_that_the_program_holds_are_counted_by_kind(rig):
    shelves = rig.runtime.tracker.young
    held = [(semconv.DB_CONNECTION, 2), (semconv.REDIS_CONNECTION, 3)]
    for kind, count in held:
        for _ in range(count):
            shelves[kind][Handle(kind)] = None
    rig.runtime.vitals.look(rig.clock.now, last=True)
    point = rig.runtime.vitals.series.recent[-1]
    assert (point.db_connections, point.redis_connections) == (2, 3)
    for kind, _ in held:
        shelves[kind].clear()
    assert newest(rig)[-2:] == (0, 0)


def test_objects_are_the_interpreters_blocks_of_memory(rig):
    before = newest(rig).objects
    kept = [object() for _ in range(50_000)]
    assert newest(rig).objects - before == pytest.approx(50_000, rel=0.2)
    del kept
    assert newest(rig).objects - before < 10_000


def test_where_the_interpreter_does_not_count_its_blocks_nothing_is_claimed(rig, monkeypatch):
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: 0)
    assert newest(rig).objects is None
    assert "objects" not in rig.runtime.report().process["changes"]


@pytest.mark.parametrize(("quantity", "least"), [("objects", 3_000), ("sockets", 0)])
def test_what_grows_by_too_little_for_its_quantity_is_stable(quantity, least):
    watched = vitals.Vitals(_NoHandles(), dict)
    for place in range(100):
        watched.series.add(Point(place * INTERVAL, 0.0, **{quantity: 100_000 + least * place // 100}))
    assert watched.trend(quantity).verdict.value == "stable"
    for place in range(100, 200):
        watched.series.add(Point(place * INTERVAL, 0.0, **{quantity: 100_000 + 500 * place}))
    assert watched.trend(quantity).verdict.value == "growing"


def test_our_own_series_is_no_growth_of_objects(rig):
    grow(rig, [100] * 200)
    assert rig.runtime.vitals.trend("objects").verdict.value == "stable"

from __future__ import annotations

import sys

import pytest

from crawlo_otel_leaks.kinship import Kinship
from crawlo_otel_leaks.model import NamedHandle, Scope
from crawlo_otel_leaks.owner import current_scope


class Holder(NamedHandle):
    """A connection, say: it stands for one descriptor."""

    __slots__ = ("number",)

    def descriptors(self):
        return (self.number,)


class Element(Holder):
    """A socket below it."""

    __slots__ = ("part_of",)
    elementary = True


class Kept(Element):
    __slots__ = ()
    kept = True


class Closing(Holder):
    __slots__ = ("error",)

    def descriptors(self):
        raise self.error


def make(kind, name, number):
    handle = kind("socket" if kind.elementary else "http.connection", name)
    handle.number = number
    return handle


@pytest.fixture
def take(rig):
    def acquire(kind, name, number):
        return rig.runtime.tracker.acquire(make(kind, name, number), sys._getframe())

    return acquire


@pytest.fixture
def in_a_scope(rig, take):
    """Take what is asked for within a scope that ends at once."""

    def acquire(*asked, thorough=False):
        scope = Scope("job", thorough=thorough)
        token = current_scope.set(scope)
        taken = [take(*one) for one in asked]
        current_scope.reset(token)
        rig.runtime.end_scope(scope)
        return taken

    return acquire


def test_a_connection_answers_for_its_socket_and_tells_what_it_holds(rig, in_a_scope, telemetry):
    in_a_scope((Element, "tcp a -> b", 7), (Holder, "http://b", 7))
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.kind, leak.name) == ("http.connection", "http://b")
    assert leak.holds == ("socket tcp a -> b (descriptor 7)",)
    (span,) = telemetry.spans("leak")
    assert span.attributes["crawlo.handle.holds"] == leak.holds
    (entry,) = rig.runtime.report().leaks
    assert entry.holds == list(leak.holds)


def test_a_socket_that_nothing_holds_is_a_leak_of_its_own(rig, in_a_scope):
    in_a_scope((Element, "tcp a -> b", 7), (Holder, "http://c", 8))
    rig.settle()
    assert sorted(rig.verdicts) == [("http.connection", "scope_end"), ("socket", "scope_end")]
    holds = {leak.name: leak.holds for leak in rig.recorder.opened_leaks}
    assert holds == {"tcp a -> b": (), "http://c": ("descriptor 8",)}


def test_a_leaked_socket_that_becomes_part_of_another_is_resolved(rig, in_a_scope, take):
    in_a_scope((Element, "tcp", 7))
    rig.settle()
    take(Holder, "http://b", 7)
    rig.settle()
    assert [leak.kind for leak in rig.recorder.resolved_leaks] == ["socket"]


def test_a_socket_that_outlives_its_connection_is_accused_from_then_on(rig, in_a_scope):
    _socket, holder = in_a_scope((Element, "tcp", 7), (Holder, "http://b", 7))
    rig.settle()
    rig.runtime.tracker.release(holder)
    rig.settle()
    rig.settle()
    assert rig.verdicts == [("http.connection", "scope_end"), ("socket", "scope_end")]


@pytest.mark.parametrize("first", ["socket", "http.connection"])
def test_collected_together_only_the_connection_is_abandoned(rig, take, first):
    both = {one.kind: one for one in (take(Element, "tcp", 7), take(Holder, "http://b", 7))}
    rig.settle()
    rig.runtime.tracker.abandon(both.pop(first))
    rig.runtime.tick()
    rig.runtime.tracker.abandon(both.popitem()[1])
    rig.settle()
    assert rig.verdicts == [("http.connection", "abandoned")]


def test_a_socket_abandoned_after_its_connection_was_given_back_is_told(rig, take):
    socket, holder = take(Element, "tcp", 7), take(Holder, "http://b", 7)
    rig.settle()
    rig.runtime.tracker.release(holder)
    rig.settle()
    rig.runtime.tracker.abandon(socket)
    rig.settle()
    assert rig.verdicts == [("socket", "abandoned")]


def test_whose_part_it_is_may_be_told_at_acquisition(rig, take):
    socket, holder = take(Element, "pipe", 7), take(Holder, "child", 8)
    socket.part_of = holder
    rig.runtime.tracker.abandon(socket)
    rig.settle()
    assert rig.verdicts == []


def test_what_a_library_keeps_only_a_thorough_scope_asks_back(rig, in_a_scope):
    in_a_scope((Kept, "tcp", 7))
    rig.settle()
    assert rig.verdicts == []
    in_a_scope((Kept, "tcp", 7), thorough=True)
    rig.settle()
    assert rig.verdicts == [("socket", "scope_end")]


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("I/O operation on closed file")])
def test_a_holder_that_is_being_closed_explains_nothing(rig, take, error):
    take(Closing, "http://b", 0).error = error
    socket = take(Element, "tcp", 7)
    assert Kinship(rig.runtime.tracker).holder(socket) is None
    assert rig.runtime.tracker.errors == 0


def test_a_holder_that_cannot_be_asked_is_counted(rig, take, caplog):
    take(Closing, "http://b", 0).error = AttributeError("no _sock")
    assert Kinship(rig.runtime.tracker).holder(take(Element, "tcp", 7)) is None
    assert rig.runtime.tracker.errors == 1
    assert "Closing.descriptors" in caplog.text
    rig.runtime.tracker.errors = 0

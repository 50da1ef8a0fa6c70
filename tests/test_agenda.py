"""The agenda gives each handle when it falls due, and in that order."""

from __future__ import annotations

import random
from math import inf

import pytest

from crawlo_otel_leaks.agenda import Agenda
from crawlo_otel_leaks.model import Handle


def added(agenda, *dues):
    handles = [Handle("file") for _ in dues]
    for handle, due in zip(handles, dues, strict=True):
        agenda.add(handle, due, 300.0, seen=True)
    return handles


def taken(agenda, now):
    return [handle for handle, _ in iter(lambda: agenda.take(now), None)]


def test_nothing_is_due_before_its_time():
    agenda = Agenda()
    one, other = added(agenda, 10.1, 10.2)
    assert not agenda.open(10.0)
    assert agenda.take(10.0) is None
    assert agenda.open(10.1)
    assert taken(agenda, 10.1) == [one]
    assert taken(agenda, 10.15) == []
    assert taken(agenda, 10.2) == [other]
    assert not agenda.open(inf)


@pytest.mark.parametrize("step", [0.07, 1.0, 60.0])
def test_what_falls_due_comes_in_its_order_whatever_the_steps(step):
    rng = random.Random(0)
    agenda, now, seen = Agenda(), 0.0, []
    handles = added(agenda, *(rng.randrange(500) / 5 for _ in range(1000)))
    dues = {handle: turn.due for turn in agenda._turns.values() for handle in turn.handles}
    while now < 100:
        now += step
        newest = taken(agenda, now)
        assert all(dues[handle] <= now for handle in newest)
        seen += newest
    assert seen == sorted(handles, key=dues.get)


def test_those_of_the_same_moment_come_in_the_order_in_which_they_were_added_and_have_one_turn():
    agenda = Agenda()
    assert taken(agenda, 5.0) == []
    handles = added(agenda, *[5.0] * 20)
    turns = set()
    for handle in handles:
        found, turn = agenda.take(5.0)
        assert found is handle
        turns.add(turn)
    assert len(turns) == 1
    assert {(turn.due, turn.threshold) for turn in turns} == {(5.0, 300.0)}


def test_each_threshold_has_a_turn_of_its_own_and_so_has_what_was_never_looked_at():
    agenda = Agenda()
    handle = Handle("file")
    assert agenda.add(handle, 5.0, 30.0, seen=True) is not agenda.add(handle, 5.0, inf, seen=True)
    assert agenda.add(handle, 5.0, 30.0, seen=True) is not agenda.add(handle, 5.0, 30.0, seen=False)
    assert agenda.add(handle, 5.0, 30.0, seen=True) is agenda.add(handle, 5.0, 30.0, seen=True)


def test_what_one_tick_did_not_come_to_is_left_for_the_next():
    agenda = Agenda()
    first, second, third = added(agenda, 1.0, 1.0, 3.0)
    assert agenda.take(4.0)[0] is first
    (late,) = added(agenda, 2.0)
    assert agenda.open(0.0)  # it was begun
    assert taken(agenda, 5.0) == [second, late, third]


def test_one_that_is_added_anew_comes_at_both_turns_which_differ():
    agenda = Agenda()
    (handle,) = added(agenda, 5.0)
    newest = agenda.add(handle, 7.0, 300.0, seen=True)
    (_, former), (_, last) = agenda.take(8.0), agenda.take(8.0)
    assert former is not newest
    assert last is newest

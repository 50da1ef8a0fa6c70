"""The agenda gives each watch when it falls due, in that order, and once."""

from __future__ import annotations

import random
from math import inf

import pytest

from crawlo_otel_leaks.agenda import GRAIN, Agenda


class Due:
    due = 0.0


def added(agenda, *dues):
    watches = [Due() for _ in dues]
    for watch, due in zip(watches, dues, strict=True):
        agenda.add(watch, due)
    return watches


def taken(agenda, now):
    agenda.open(now)
    return list(iter(lambda: agenda.take(now), None))


def test_nothing_is_due_before_its_time():
    agenda = Agenda()
    one, other = added(agenda, 10.1, 10.2)
    assert not agenda.open(10.0)
    assert taken(agenda, 10.1) == [one]
    assert taken(agenda, 10.15) == []
    assert taken(agenda, 10.2) == [other]
    assert not agenda.open(inf)


@pytest.mark.parametrize("step", [GRAIN / 7, 1.0, 60.0])
def test_what_falls_due_comes_in_its_order_whatever_the_steps(step):
    rng = random.Random(0)
    agenda, now, seen = Agenda(), 0.0, []
    watches = added(agenda, *(rng.random() * 100 for _ in range(1000)))
    while now < 100:
        now += step
        newest = taken(agenda, now)
        assert all(watch.due <= now for watch in newest)
        seen += newest
    assert seen == sorted(watches, key=lambda watch: watch.due)


def test_those_of_the_same_moment_come_in_the_order_in_which_they_were_added():
    agenda = Agenda()
    assert taken(agenda, 5.0) == []
    watches = added(agenda, *[5.0] * 20)
    assert taken(agenda, 5.0) == watches


@pytest.mark.parametrize(("before", "after"), [(5.0, 7.0), (7.0, 5.0), (5.1, 5.2)])
def test_one_that_is_put_off_or_brought_forward_comes_at_its_new_time_only(before, after):
    agenda = Agenda()
    (watch,) = added(agenda, before)
    agenda.add(watch, after)
    seen = []
    for now in (tenth / 10 for tenth in range(40, 90)):
        agenda.open(now)
        while agenda.take(now) is watch:
            seen.append(now)
            agenda.add(watch, inf)  # as the detector does after each look
    assert seen == [after]


def test_what_one_tick_did_not_come_to_is_left_for_the_next_unless_put_off():
    agenda = Agenda()
    first, second, third = added(agenda, 1.0, 2.0, 3.0)
    agenda.open(4.0)
    assert agenda.take(4.0) is first
    agenda.add(second, 9.0)
    assert taken(agenda, 5.0) == [third]
    assert taken(agenda, 9.0) == [second]

"""Holds too brief to be told one by one: only counted, and their handles die at once."""

from __future__ import annotations

import sys
import weakref

import pytest

from crawlo_otel_leaks import semconv, tracker
from crawlo_otel_leaks.model import NamedHandle
from crawlo_otel_leaks.runtime import Runtime
from crawlo_otel_leaks.settings import Settings


class Thing(NamedHandle):
    __slots__ = ("__weakref__",)


@pytest.fixture
def brief(rig):
    rig.runtime.tracker.brief = tracker.BRIEF
    return rig


def hold(rig, seconds):
    handle = rig.runtime.tracker.acquire(Thing(semconv.CUSTOM), sys._getframe())
    rig.clock.advance(seconds)
    rig.runtime.tracker.release(handle)
    return handle


def held(telemetry):
    points = telemetry.metrics().get(semconv.METRIC_HANDLE_DURATION, [])
    return sum(point.count for point in points if point.attributes[semconv.HANDLE_KIND] == semconv.CUSTOM)


def test_a_brief_hold_is_counted_in_the_histogram_alone(brief, telemetry):
    before = held(telemetry)
    for seconds in (0.0, 0.05, 0.09, 0.2, 2.0):
        hold(brief, seconds)
    brief.runtime.tick()
    assert [handle.held for handle in brief.recorder.released_handles] == [pytest.approx(0.2), pytest.approx(2.0)]
    assert held(telemetry) - before == 5
    brief.runtime.tick()
    assert held(telemetry) - before == 5


def test_its_handle_dies_at_once_and_one_that_has_to_be_told_does_not(brief):
    ends = [weakref.ref(hold(brief, seconds)) for seconds in (0.01, 1.0, 0.01)]
    assert [end() is None for end in ends[:2]] == [True, False], "a site knows its latest alone"


def test_it_counts_in_its_sites_history(brief):
    sites = {hold(brief, 0.01).site for _ in range(120)}
    (holds,) = {site.holds for site in sites}
    assert (holds.brief, holds.timed, holds.total) == (120, 0, 120)
    assert holds.p99() < tracker.BRIEF
    for _ in range(120):
        holds.add(40.0)
    assert holds.p99() >= 40.0


def test_one_that_outlived_a_look_is_told_however_brief(brief):
    handle = brief.runtime.tracker.acquire(Thing(semconv.CUSTOM), sys._getframe())
    brief.runtime.detector._plan(brief.runtime.detector._known(handle), brief.clock.now)
    brief.runtime.tracker.release(handle)
    assert brief.held == []
    brief.runtime.tick()
    assert brief.recorder.released_handles == [handle]


def test_more_than_can_be_kept_between_two_looks_is_dropped_and_counted(brief, monkeypatch):
    monkeypatch.setattr(tracker, "COUNTED", 3)
    made = tracker.Tracker(brief.runtime.tracker.sites, brief.clock)
    for _ in range(5):
        made.release(made.acquire(Thing(semconv.CUSTOM), sys._getframe()))
    assert (len(made.brief_holds[semconv.CUSTOM]), made.dropped) == (3, 2)
    made.clear()
    assert len(made.brief_holds[semconv.CUSTOM]) == 0


@pytest.mark.parametrize(("hold_min", "expected"), [(0.0, 0.0), (0.02, 0.02), (5.0, tracker.BRIEF)])
def test_what_gets_a_hold_span_is_never_brief(hold_min, expected):
    assert Runtime(Settings(hold_min=hold_min)).tracker.brief == expected

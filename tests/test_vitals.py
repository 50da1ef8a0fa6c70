"""The process over time: which descriptors no handle explains, when they will be used up, and what the report says."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from pathlib import Path

import jsonschema
import pytest
from conftest import Clock
from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import model, process, semconv, vitals
from crawlo_otel_leaks.process import UNCLASSIFIED, Descriptor
from crawlo_otel_leaks.vitals import INTERVAL, OLDER, RECENT, Point, Series

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "report.schema.json").read_text())
FD, ETA = semconv.METRIC_FD_UNATTRIBUTED, semconv.METRIC_FD_ETA


def shown(telemetry, name):
    return [point.value for point in telemetry.metrics().get(name, [])]


def unattributed(rig):
    """What the next look finds."""
    rig.pass_time(INTERVAL)
    return rig.runtime.vitals.numbers[FD]


def grow(rig, counts):
    """Let the process seem to hold so many descriptors at successive looks."""
    for count in counts:
        held = {number: Descriptor("socket", 1, number) for number in range(count)}
        rig.runtime.vitals._descriptors = lambda held=held: held
        rig.pass_time(INTERVAL)


# What no handle explains.


def test_what_was_open_before_us_needs_no_explanation_and_what_is_opened_beside_us_does(rig):
    assert unattributed(rig) == 0
    ends = os.pipe()
    assert unattributed(rig) == 2
    for end in ends:
        os.close(end)
    assert unattributed(rig) == 0


@pytest.mark.parametrize(("mode", "buffering"), [("r", -1), ("rb", -1), ("r+b", -1), ("rb", 0), ("r+b", 0)])
def test_a_file_that_is_watched_explains_its_descriptor(rig, instrumented, path, mode, buffering):
    with path.open(mode, buffering=buffering):
        assert unattributed(rig) == 0
        assert rig.runtime.vitals.latest.fds_by_type["file"] >= 1
    assert unattributed(rig) == 0


def test_a_file_that_is_nobodys_is_explained_by_nobody(rig, instrumented, path):
    with suppress_instrumentation():
        file = path.open()
    assert unattributed(rig) == 1
    file.close()


def test_a_file_closed_behind_our_back_explains_nothing_and_hides_nothing(rig, instrumented, path):
    file = path.open()
    os.close(file.fileno())
    assert unattributed(rig) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.close()


def test_a_number_that_was_open_before_us_and_is_anothers_now_needs_an_explanation(rig, path):
    before = os.open(path, os.O_RDONLY)
    rig.runtime.vitals.begin()
    assert unattributed(rig) == 0
    os.close(before)
    ends = os.pipe()
    assert before in ends
    assert unattributed(rig) == 2
    for end in ends:
        os.close(end)


def test_what_was_never_looked_at_is_taken_for_what_it_was(rig):
    held = {number: Descriptor("file", 1, number) for number in range(5)}
    rig.runtime.vitals._descriptors = lambda: held
    rig.runtime.vitals.begin()
    rig.runtime.vitals._descriptors = lambda: {number: Descriptor(UNCLASSIFIED, 0, 0) for number in range(6)}
    assert unattributed(rig) == 1


def test_an_event_loop_is_made_of_descriptors_that_nobody_took(rig):
    async def main():
        first = unattributed(rig)
        with socket.socket():
            return first, unattributed(rig)

    assert asyncio.run(main()) == (0, 1)
    assert unattributed(rig) == 0


def test_a_handle_that_fails_to_tell_explains_nothing_and_costs_nothing_else(rig):
    class Broken(model.Handle):
        __slots__ = ()

        def descriptors(self):
            raise ValueError("I/O operation on closed file")

    rig.runtime.tracker.young["custom"][Broken("custom")] = None
    rig.runtime.vitals.look(rig.clock.now, last=True)
    assert rig.runtime.vitals.numbers[FD] == 0
    rig.runtime.tracker.young["custom"].clear()


def test_what_is_opened_while_we_list_is_explained_too(rig, instrumented, path):
    opened = []

    def listing():
        opened.append(path.open())
        return process.descriptors()

    rig.runtime.vitals._descriptors = listing
    rig.runtime.vitals.look(rig.clock.now)
    assert rig.runtime.vitals.numbers[FD] == 0
    opened.pop().close()


def test_what_is_open_for_a_moment_alone_needs_no_explanation(rig):
    """A module that is being imported has its file open so."""
    paused, opened = [], [*os.pipe()]
    rig.runtime.vitals.pause = lambda seconds: (paused.append(seconds), os.close(opened.pop()))
    assert unattributed(rig) == 1
    assert paused == [vitals.MOMENT]
    os.close(opened.pop())
    assert unattributed(rig) == 0
    assert paused == [vitals.MOMENT], "nobody waits where all is explained"


def test_what_is_closed_while_we_list_was_explained_before(rig, instrumented, path):
    file = path.open()

    def listing():
        held = process.descriptors()
        file.close()
        return held

    rig.runtime.vitals._descriptors = listing
    rig.runtime.vitals.look(rig.clock.now)
    assert rig.runtime.vitals.numbers[FD] == 0


def test_where_descriptors_cannot_be_listed_nothing_is_claimed(rig, telemetry):
    rig.runtime.vitals._descriptors = lambda: None
    rig.runtime.vitals.begin()
    rig.pass_time(INTERVAL)
    assert rig.runtime.vitals.numbers == {}
    assert shown(telemetry, FD) == shown(telemetry, ETA) == []
    assert rig.runtime.vitals.latest.fds > 0


# Gauges.


def test_the_gauges_show_what_the_last_look_found_and_look_at_nothing_themselves(rig, telemetry, monkeypatch):
    rig.runtime.vitals.begin()
    ends = os.pipe()
    rig.pass_time(INTERVAL)
    monkeypatch.setattr(process, "snapshot", None)
    for end in ends:
        os.close(end)
    assert shown(telemetry, FD) == [2]
    assert shown(telemetry, ETA) == []
    rig.runtime.stop()
    assert shown(telemetry, FD) == []


def test_a_look_is_taken_at_the_first_tick_and_then_at_its_own_interval(rig):
    for _ in range(40):
        rig.pass_time(1)
    assert len(list(rig.runtime.vitals.series)) == 3


def test_descriptors_that_run_out_have_a_time_left(rig, telemetry, monkeypatch):
    monkeypatch.setattr(vitals.resource, "getrlimit", lambda _: (1024, 4096))
    grow(rig, range(100, 160))
    assert shown(telemetry, ETA) == [pytest.approx((1024 - 159) * INTERVAL, rel=0.05)]
    grow(rig, [160] * 120)
    assert shown(telemetry, ETA) == []


def test_without_a_limit_they_never_run_out(rig, monkeypatch):
    monkeypatch.setattr(vitals.resource, "getrlimit", lambda _: (vitals.resource.RLIM_INFINITY,) * 2)
    grow(rig, range(100, 160))
    assert ETA not in rig.runtime.vitals.numbers
    assert [one["quantity"] for one in rig.runtime.vitals.block()["suspects"]][:1] == ["fds"]


def test_a_look_that_fails_is_counted_and_costs_no_verdict(rig, monkeypatch, caplog):
    def break_down(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(process, "snapshot", break_down)
    rig.settle()
    assert rig.runtime.tracker.errors == 2
    assert caplog.text.count("a defect") == 1
    rig.runtime.tracker.errors = 0  # as expected; the rig refuses any other


def test_a_forked_childs_descriptors_are_its_parents(rig, monkeypatch):
    monkeypatch.setattr(rig.runtime.ticker, "start", lambda: None)
    ends = os.pipe()
    assert unattributed(rig) == 2
    rig.runtime.forked()
    assert list(rig.runtime.vitals.series) == []
    assert unattributed(rig) == 0
    for end in ends:
        os.close(end)


# The series.


def test_a_series_is_bounded_keeps_its_beginning_and_its_newest_points_and_grows_sparser_backwards():
    series = Series()
    for place in range(20_000):
        series.add(Point(place * INTERVAL, 0.0))
        assert len(series.older) <= OLDER
    points = [point.at / INTERVAL for point in series]
    assert points == sorted(points)
    assert points[-RECENT:] == list(range(20_000 - RECENT, 20_000))
    assert points[0] == 0
    gaps = [after - before for before, after in itertools.pairwise(points)]
    assert max(gaps) <= 2.1 * 20_000 / OLDER
    assert len(series.older) >= OLDER // 2


def test_growth_of_late_is_seen_in_a_long_life():
    clock = Clock()
    watched = vitals.Vitals(_NoHandles(), dict)
    for place in range(3000):
        fds = 100 + max(0, place - 2800)
        watched.series.add(Point(clock.now + place * INTERVAL, 0.0, fds=fds, rss=10**8))
    assert watched.trend("fds").verdict.value == "growing"
    assert watched.trend("fds").slope == pytest.approx(1 / INTERVAL, rel=0.05)
    assert watched.trend("rss").verdict.value == "stable"
    assert watched.trend("tasks").verdict.value == "insufficient_data"


def test_memory_that_creeps_by_less_than_a_hundredth_is_no_suspect():
    watched = vitals.Vitals(_NoHandles(), dict)
    for place in range(100):
        watched.series.add(Point(place * INTERVAL, 0.0, rss=10**8 + 300 * place))
    assert watched.trend("rss").verdict.value == "stable"
    for place in range(100, 200):
        watched.series.add(Point(place * INTERVAL, 0.0, rss=10**8 + 30_000 * place))
    assert watched.trend("rss").verdict.value == "growing"


class _NoHandles:
    """A tracker that holds nothing."""

    def held(self):
        return iter(())


# The report.


def test_the_report_shows_the_series_its_changes_and_what_grows(rig, monkeypatch):
    monkeypatch.setattr(vitals.resource, "getrlimit", lambda _: (1024, 4096))
    rig.runtime.vitals.begin()
    grow(rig, range(100, 600))
    report = json.loads(rig.runtime.report().as_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    block = report["process"]
    assert (block["changes"]["fds"]["first"], block["changes"]["fds"]["last"]) == (100, 599)
    assert block["changes"]["tasks"]["verdict"] == "stable"
    (fds,) = [one for one in block["suspects"] if one["quantity"] == "fds"]
    assert fds["slope"] == pytest.approx(1 / INTERVAL, rel=0.05)
    assert fds["eta_s"] == pytest.approx((1024 - 599) * INTERVAL, rel=0.1)
    assert len(block["series"]) <= vitals.SHOWN
    assert block["series"][-1]["fds"] == 599
    assert set(block["series"][-1]) == set(Point._fields)


def test_a_short_life_is_insufficient_data_and_no_suspect(rig):
    rig.pass_time(1)
    block = rig.runtime.report().process
    assert [point["fds"] > 0 for point in block["series"]] == [True]
    assert {change["verdict"] for change in block["changes"].values()} == {"insufficient_data"}
    assert block["suspects"] == []


def test_a_process_ends_with_a_last_look(rig):
    rig.pass_time(1)
    rig.pass_time(1)
    rig.runtime.finish(exiting=True)
    assert len(rig.runtime.report().process["series"]) == 2


def test_before_the_first_look_nothing_is_shown(rig):
    assert rig.runtime.report().process == {
        "series": [],
        "changes": {},
        "suspects": [],
        "type_changes": [],
        "memory_sites": [],
    }

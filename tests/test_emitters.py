"""Spans, events and metrics as an SDK in memory gets them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from conftest import Rig
from opentelemetry import metrics, trace
from opentelemetry.metrics import Observation

from crawlo_otel_leaks import release, semconv, track
from crawlo_otel_leaks.emitters import attributes, spans
from crawlo_otel_leaks.emitters.metrics import Metrics
from crawlo_otel_leaks.model import Finding, Frame, Leak, Owner, Reason
from crawlo_otel_leaks.runtime import Runtime
from crawlo_otel_leaks.settings import Settings


class Thing:
    """Something of the user's own."""


def _take(name="orders"):
    """Take, and return at once: what its own function still works with is in use."""
    return track(Thing(), kind=semconv.DB_CONNECTION, name=name)


def _leak(fingerprint="f" * 16, reason=Reason.ABANDONED, name="thing", ident=1):
    handle = SimpleNamespace(kind=semconv.CUSTOM)
    stack = (Frame("work", "/app.py", 7, "take()"), Frame("main", "/app.py", 9))
    return Leak(ident, handle, reason, fingerprint, name, Owner("MainThread"), stack, 10.0, 12.5)


def _values(telemetry, name):
    return {point.attributes[semconv.HANDLE_KIND]: point.value for point in telemetry.metrics()[name]}


# Where and when: on the detector's step alone.


def test_what_is_collected_tells_nothing_before_the_detectors_next_step(rig, telemetry):
    track(Thing())
    assert telemetry.spans() == telemetry.events() == []
    rig.pass_time(1)
    assert [span.name for span in telemetry.spans()] == ["leak custom"]
    assert [event.event_name for event in telemetry.events()] == [semconv.LEAK_DETECTED]


def test_a_thing_dropped_while_the_sdk_collects_metrics_deadlocks_nothing(rig, telemetry):
    dropped = []

    def drop(_options):
        if not dropped:  # an instrument cannot be taken away again, and other tests collect too
            track(Thing())
            dropped.append(1)
        return [Observation(1)]

    metrics.get_meter("tests").create_observable_gauge("tests.drops", [drop])
    collect = threading.Thread(target=telemetry.metrics, daemon=True)
    collect.start()
    collect.join(10)
    assert not collect.is_alive()
    rig.pass_time(1)
    assert rig.verdicts == [("custom", "abandoned")]


def test_gauge_callbacks_read_numbers_that_the_last_step_computed(rig, telemetry, monkeypatch):
    kept = track(Thing())
    rig.pass_time(2)
    before = len(telemetry.metrics())
    monkeypatch.setattr(rig.runtime.tracker, "count", None)
    monkeypatch.setattr(rig.runtime.tracker, "sites", None)
    monkeypatch.setattr(rig.runtime.tracker, "old", None)
    assert len(telemetry.metrics()) == before
    assert _values(telemetry, semconv.METRIC_HANDLE_COUNT)["custom"] == 1
    monkeypatch.undo()
    release(kept)
    assert _values(telemetry, semconv.METRIC_HANDLE_COUNT)["custom"] == 1
    rig.pass_time(1)
    assert _values(telemetry, semconv.METRIC_HANDLE_COUNT)["custom"] == 0


def test_instruments_are_made_at_the_start_and_never_later(rig, telemetry, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("made an instrument")

    for name in ("create_counter", "create_histogram", "create_observable_gauge", "create_observable_up_down_counter"):
        monkeypatch.setattr(f"opentelemetry.sdk.metrics.Meter.{name}", refuse)
    track(Thing())
    release(track(Thing()))
    rig.settle()
    assert rig.verdicts == [("custom", "abandoned")]
    with pytest.raises(AssertionError, match="made an instrument"):
        Metrics(rig.runtime.numbers)


def test_gauges_show_the_newest_detector_and_nothing_of_one_that_was_stopped(rig, telemetry):
    kept = track(Thing())
    rig.pass_time(2)
    rig.runtime.stop()
    assert set(_values(telemetry, semconv.METRIC_HANDLE_COUNT).values()) == {0}
    release(kept)
    again = Rig(Settings())
    again.runtime.numbers.held = {"file": 7.0}
    assert _values(telemetry, semconv.METRIC_HANDLE_COUNT) == {"file": 7}


def test_spans_are_marked_with_their_starter_once_however_often_we_start(rig):
    provider = trace.get_tracer_provider()
    rig.runtime.tick()
    for _ in range(3):
        Runtime(Settings()).tick()
    starters = [one for one in provider._active_span_processor._span_processors if isinstance(one, spans.Starters)]
    assert len(starters) == 1


# What is told, and how often.


def test_ages_and_open_leaks_are_shown(rig, telemetry):
    kept = [_take() for _ in range(5)]
    rig.pass_time(100, steps=20)
    assert _values(telemetry, semconv.METRIC_HANDLE_AGE_MAX)["db.connection"] == pytest.approx(100)
    assert _values(telemetry, semconv.METRIC_LEAK_OPEN)["db.connection"] == 5
    release(kept.pop())
    rig.pass_time(1)
    assert _values(telemetry, semconv.METRIC_LEAK_OPEN)["db.connection"] == 4


def test_a_finding_is_announced_whenever_its_count_gains_a_digit(rig, telemetry):
    for _ in range(120):
        track(Thing())
    rig.pass_time(1)
    counts = [event.attributes[semconv.LEAK_COUNT] for event in telemetry.events(semconv.LEAK_DETECTED)]
    assert counts == [1, 10, 100]


def test_each_of_the_first_hundred_leaks_of_a_finding_gets_a_span_then_those_at_powers_of_two(rig, telemetry):
    for _ in range(600):
        track(Thing())
    rig.pass_time(1)
    counts = [span.attributes[semconv.LEAK_COUNT] for span in telemetry.spans("leak ")]
    assert counts == [*range(1, spans.EACH + 1), 128, 256, 512]


def test_only_what_was_announced_is_told_to_be_resolved(rig, telemetry):
    kept = [_take() for _ in range(3)]
    rig.pass_time(100, steps=20)
    for thing in kept:
        release(thing)
    rig.pass_time(1)
    assert len(telemetry.events(semconv.LEAK_DETECTED)) == len(telemetry.events(semconv.LEAK_RESOLVED)) == 1
    (resolved,) = telemetry.events(semconv.LEAK_RESOLVED)
    assert resolved.attributes[semconv.LEAK_HELD] == pytest.approx(100)


def test_what_is_slow_is_no_span_no_event_and_no_count(rig, telemetry):
    before = _leaks_counted(telemetry)
    for sink in rig.runtime.detector.sinks:
        sink.opened(_leak(reason=Reason.SLOW), Finding(_leak(), Reason.SLOW, count=1))
    assert telemetry.spans() == telemetry.events() == []
    assert _leaks_counted(telemetry) == before


def _leaks_counted(telemetry):
    return sum(point.value for point in telemetry.metrics().get(semconv.METRIC_LEAK_COUNT, []))


def test_the_fingerprints_of_the_counter_are_capped(rig, telemetry):
    sink = Metrics(rig.runtime.numbers)
    for number in range(semconv.FINGERPRINT_CAP + 20):
        sink.opened(_leak(f"capped-{number:09}"), Finding(_leak(), Reason.ABANDONED))
    points = {point.attributes[semconv.LEAK_FINGERPRINT]: point.value for point in _new(telemetry)}
    assert len(points) == semconv.FINGERPRINT_CAP + 1
    assert points[semconv.OTHER] == 20


def _new(telemetry):
    points = telemetry.metrics()[semconv.METRIC_LEAK_COUNT]
    return [one for one in points if one.attributes[semconv.LEAK_FINGERPRINT].startswith(("capped-", semconv.OTHER))]


def test_what_is_abandoned_has_no_hold_span_and_what_is_released_has_one(rig, telemetry, tracer):
    with tracer.start_as_current_span("acquiring"):
        track(Thing(), kind=semconv.DB_CONNECTION)
        given_back = track(Thing(), kind=semconv.DB_CONNECTION, name="orders")
    rig.pass_time(5)
    release(given_back)
    rig.pass_time(1)
    (hold,) = telemetry.spans("hold ")
    assert hold.attributes[semconv.HANDLE_NAME] == "orders"
    assert (hold.end_time - hold.start_time) / 1e9 == pytest.approx(5, abs=0.01)


def test_a_broken_exporter_stops_neither_the_others_nor_the_program(rig, telemetry, monkeypatch):
    def break_down(*_args):
        raise RuntimeError("collector on fire")

    monkeypatch.setattr(spans.Spans, "opened", break_down)
    track(Thing())
    rig.pass_time(1)
    assert len(telemetry.events()) == 1
    assert rig.runtime.tracker.errors == 1
    rig.runtime.tracker.errors = 0  # as expected; the rig refuses any other


# Attributes.


def test_owner_attributes_are_those_that_are_known():
    owner = Owner("worker", task="Task-1", spider="quotes", run_id="r1", scope="job")
    assert attributes.of_handle("file", "a.txt", owner) == {
        "crawlo.handle.kind": "file",
        "crawlo.handle.name": "a.txt",
        "thread.name": "worker",
        "crawlo.task.name": "Task-1",
        "crawlo.spider.name": "quotes",
        "crawlo.run.id": "r1",
        "crawlo.scope.name": "job",
    }
    assert attributes.of_handle("file", "", Owner("worker")) == {"crawlo.handle.kind": "file", "thread.name": "worker"}


def test_the_stack_is_printed_as_python_prints_one():
    assert attributes.of_leak(_leak(), 1)["code.stacktrace"] == (
        "Acquired at (most recent call last):\n"
        '  File "/app.py", line 9, in main\n'
        '  File "/app.py", line 7, in work\n'
        "    take()"
    )


def test_every_attribute_can_be_encoded():
    told = attributes.of_leak(_leak(name="caf\udce9"), 1)
    assert told[semconv.HANDLE_NAME] == r"caf\udce9"
    assert all(text.encode() is not None for text in told.values() if isinstance(text, str))
    assert attributes.printable("café") == "café"

"""What an OTLP receiver decodes from real programs under the real opentelemetry-instrument."""

from __future__ import annotations

import time

import programs
import pytest
from receiver import RECEIVERS, HttpReceiver

from crawlo_otel_leaks import semconv

NANO = 1e9
ERROR = 2
INTERNAL = 1
WARN = 13

LEAKY = """
    import time
    from opentelemetry import trace
    from crawlo_otel_leaks import release, track

    class Pool:
        pass

    def drop(path):
        left = open(path, "w")
        left.write("x")

    def acquire():
        with tracer.start_as_current_span("acquiring"):
            drop("dropped.txt")
            # Held by a list: a global of the main script would be taken to be shared by all of it.
            return [open("kept.txt", "w"), track(Pool(), kind="db.connection", name="orders")]

    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("outer"):
        held = acquire()
        time.sleep(2)
    held[0].close()
    release(held[1])
    time.sleep(0.3)
    print("done")
"""
CLEAN = (
    LEAKY.replace('left = open(path, "w")', 'with open(path, "w") as left:')
    .replace('left.write("x")', '    left.write("x")')
    .replace('open("kept.txt", "w")', 'open("kept.txt", "w").close()')
    .replace("held[0].close()", "pass")
    .replace("release(held[1])", "pass")
    .replace('track(Pool(), kind="db.connection", name="orders")', "release(track(Pool()))")
)


def _leaky(receiver, where, **settings):
    began = time.time_ns()
    done = programs.run(where, LEAKY, receiver, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    return began, time.time_ns()


@pytest.fixture(scope="module", params=sorted(RECEIVERS))
def told(request, tmp_path_factory):
    """One run for each protocol; the tests look at what it sent."""
    with RECEIVERS[request.param]() as receiver:
        receiver.began, receiver.ended = _leaky(receiver, tmp_path_factory.mktemp("otlp"), **programs.FILES_ALONE)
        yield receiver


def _leak(told, reason):
    (found,) = [span for span in told.spans("leak ") if span.attributes[semconv.LEAK_REASON] == reason]
    return found


def test_a_leak_span_is_a_child_of_the_acquiring_span_in_its_trace(told):
    acquiring = told.span("acquiring").data
    for leak in told.spans("leak "):
        assert leak.data.trace_id == acquiring.trace_id
        assert leak.data.parent_span_id == acquiring.span_id
        assert leak.data.span_id != acquiring.span_id
        assert leak.data.kind == INTERNAL
        assert leak.scope == "crawlo_otel_leaks"


def test_the_leaks_of_the_program_and_no_others_are_told(told):
    kinds = sorted((span.data.name, span.attributes[semconv.LEAK_REASON]) for span in told.spans("leak "))
    assert kinds == [
        ("leak db.connection", "owner_finished"),
        ("leak file", "abandoned"),
        ("leak file", "owner_finished"),
    ]


def test_a_leak_span_lasts_from_acquisition_to_detection(told):
    acquiring, leak = told.span("acquiring").data, _leak_of(told, "kept.txt").data
    assert told.began < leak.start_time_unix_nano < told.ended
    assert acquiring.start_time_unix_nano - NANO / 100 < leak.start_time_unix_nano < acquiring.end_time_unix_nano
    # The grace, 0.05 s, has passed; the release, 2 s later, has not come.
    assert 0.04 * NANO < leak.end_time_unix_nano - leak.start_time_unix_nano < 1.9 * NANO
    held = _leak_of(told, "kept.txt").attributes[semconv.LEAK_HELD]
    assert held == pytest.approx((leak.end_time_unix_nano - leak.start_time_unix_nano) / NANO, abs=0.01)


def test_the_leak_span_of_an_abandoned_file_ends_when_it_was_dropped(told):
    leak = _leak(told, "abandoned").data
    acquiring = told.span("acquiring").data
    assert 0 <= leak.end_time_unix_nano - leak.start_time_unix_nano < NANO
    assert leak.end_time_unix_nano < acquiring.end_time_unix_nano + NANO / 100


def _leak_of(told, name):
    (found,) = [span for span in told.spans("leak ") if span.attributes[semconv.HANDLE_NAME] == name]
    return found


def test_a_leak_span_says_what_where_and_whose(told):
    attributes = dict(_leak_of(told, "dropped.txt").attributes)
    stack = attributes.pop("code.stacktrace").splitlines()
    assert attributes.pop("code.file.path").endswith("app.py")
    assert attributes.pop("crawlo.handle.id") > 0
    assert len(bytes.fromhex(attributes.pop("crawlo.leak.fingerprint"))) == 8
    assert 0 <= attributes.pop("crawlo.leak.held") < 1
    line = LEAKY.splitlines().index('        left = open(path, "w")') + 1
    assert attributes == {
        "crawlo.handle.kind": "file",
        "crawlo.handle.name": "dropped.txt",
        "crawlo.leak.reason": "abandoned",
        "crawlo.leak.count": 1,
        "code.function.name": "drop",
        "code.line.number": line,
        "thread.name": "MainThread",
        "error.type": "abandoned",
    }
    assert stack[0] == "Acquired at (most recent call last):"
    assert stack[-2].endswith(f"line {line}, in drop")
    assert stack[-1].strip() == 'left = open(path, "w")'


def test_a_leak_span_has_the_status_error(told):
    status = _leak_of(told, "kept.txt").data.status
    assert status.code == ERROR
    assert status.message == "file kept.txt owner_finished"


def test_the_resource_is_the_programs_own(told):
    acquiring = told.span("acquiring").resource
    assert acquiring["service.name"] == "leaky-app"
    for item in (*told.spans("leak "), *told.spans("hold "), *told.events(), told.metrics()[semconv.METRIC_LEAK_OPEN]):
        assert item.resource == acquiring


def test_a_hold_span_lasts_from_acquire_to_release_below_the_acquiring_span(told):
    acquiring, (hold,) = told.span("acquiring").data, told.spans("hold ")
    assert hold.data.name == "hold db.connection"
    assert hold.data.parent_span_id == acquiring.span_id
    assert hold.data.trace_id == acquiring.trace_id
    assert 0.35 * NANO < hold.data.end_time_unix_nano - hold.data.start_time_unix_nano < 5 * NANO
    assert hold.data.status.code == 0
    assert hold.attributes == {
        "crawlo.handle.kind": "db.connection",
        "crawlo.handle.name": "orders",
        "thread.name": "MainThread",
    }


def test_events_tell_detection_and_release_in_the_context_of_the_acquiring_span(told):
    acquiring = told.span("acquiring").data
    names = sorted((event.data.event_name, event.attributes[semconv.HANDLE_NAME]) for event in told.events())
    assert names == [
        ("crawlo.leak.detected", "dropped.txt"),
        ("crawlo.leak.detected", "kept.txt"),
        ("crawlo.leak.detected", "orders"),
        ("crawlo.leak.resolved", "kept.txt"),
        ("crawlo.leak.resolved", "orders"),
    ]
    for event in told.events():
        assert (event.data.trace_id, event.data.span_id) == (acquiring.trace_id, acquiring.span_id)
        assert (event.data.severity_number, event.data.severity_text) == (WARN, "WARN")
        assert told.began < event.data.time_unix_nano <= event.data.observed_time_unix_nano + NANO / 100
        assert event.scope == "crawlo_otel_leaks"


def test_an_event_says_what_its_leak_span_says(told):
    for event in told.events(semconv.LEAK_DETECTED):
        assert event.attributes == _leak_of(told, event.attributes[semconv.HANDLE_NAME]).attributes
    (text,) = [event.data.body.string_value for event in told.events() if event.attributes[semconv.HANDLE_ID] == 1]
    assert text.startswith("file dropped.txt abandoned, held 0.0 s, acquired at ")


def test_metrics_have_their_units_and_attributes(told):
    units = {name: item.data.unit for name, item in told.metrics().items() if name.startswith("crawlo.")}
    assert units == {
        "crawlo.handle.count": "{handle}",
        "crawlo.handle.age.max": "s",
        "crawlo.handle.duration": "s",
        "crawlo.leak.count": "{leak}",
        "crawlo.leak.open": "{leak}",
        "crawlo.fd.unattributed": "{file_descriptor}",
        "crawlo.tracker.bytes": "By",
        "crawlo.tracker.dropped": "{handle}",
        "crawlo.tracker.errors": "{error}",
        "crawlo.tracker.ignored": "{handle}",
        "crawlo.tracker.sampling.rate": "1",
    }
    counter = told.metrics()["crawlo.leak.count"].data.sum
    assert counter.is_monotonic
    assert not told.metrics()["crawlo.handle.count"].data.sum.is_monotonic
    for attributes, _ in told.points("crawlo.leak.count"):
        assert set(attributes) == {"crawlo.handle.kind", "crawlo.leak.reason", "crawlo.leak.fingerprint"}


def test_metrics_count_what_was_held_and_leaked(told):
    leaks = {
        (at["crawlo.handle.kind"], at["crawlo.leak.reason"]): point.as_int
        for at, point in told.points("crawlo.leak.count")
    }
    assert leaks == {("file", "abandoned"): 1, ("file", "owner_finished"): 1, ("db.connection", "owner_finished"): 1}
    durations = {at["crawlo.handle.kind"]: point for at, point in told.points("crawlo.handle.duration")}
    assert durations["db.connection"].count == 1
    assert durations["db.connection"].sum == pytest.approx(2, abs=0.5)
    assert durations["db.connection"].explicit_bounds[0] < 0.01  # buckets in seconds


@pytest.mark.parametrize("name", ["crawlo.handle.count", "crawlo.handle.age.max", "crawlo.leak.open"])
def test_kinds_without_handles_show_zero(told, name):
    values = {at["crawlo.handle.kind"]: point.as_double for at, point in told.points(name)}
    assert values == dict.fromkeys(semconv.KINDS, 0.0)


def test_our_own_reading_of_source_lines_is_not_taken_for_the_programs(told):
    assert told.points("crawlo.tracker.errors")[0][1].as_double == 0
    durations = {at["crawlo.handle.kind"]: point.count for at, point in told.points("crawlo.handle.duration")}
    assert durations["file"] == 1  # kept.txt; what is abandoned has no release


@pytest.mark.parametrize("kind", sorted(RECEIVERS))
def test_a_clean_program_tells_nothing_but_numbers(kind, tmp_path):
    with RECEIVERS[kind]() as receiver:
        done = programs.run(tmp_path, CLEAN, receiver)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
        assert receiver.spans("leak ") == receiver.spans("hold ") == receiver.events() == []
        assert receiver.span("acquiring").resource["service.name"] == "leaky-app"
        assert "crawlo.leak.count" not in receiver.metrics()


def test_gzipped_bodies_arrive(tmp_path):
    with HttpReceiver() as receiver:
        _leaky(receiver, tmp_path, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
        assert receiver.encodings == {"gzip"}
        assert len(receiver.spans("leak ")) == 3


UNPRINTABLE = r"""
    import os
    from opentelemetry import trace

    def drop():
        left = open(os.fsdecode(b"caf\xe9.txt"), "w")

    with trace.get_tracer("app").start_as_current_span("acquiring"):
        drop()
"""


@pytest.mark.parametrize("kind", sorted(RECEIVERS))
def test_a_name_that_is_no_text_costs_no_telemetry(tmp_path, kind):
    with RECEIVERS[kind]() as receiver:
        done = programs.run(tmp_path, UNPRINTABLE, receiver)
        assert (done.returncode, done.stderr) == (0, "")
        assert receiver.span("acquiring")
        assert receiver.span("leak file").attributes[semconv.HANDLE_NAME] == r"caf\udce9.txt"
        assert len(receiver.events()) == 1

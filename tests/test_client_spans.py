"""Another instrumentation's span around one call of its library: what is acquired within is the caller's."""

from __future__ import annotations

import sys

import pytest
from opentelemetry import trace

from crawlo_otel_leaks import owner
from crawlo_otel_leaks.model import NamedHandle

CLIENT = trace.SpanKind.CLIENT


@pytest.fixture(autouse=True)
def _attached(rig):
    rig.runtime.tick()  # attaches the processor that notes who starts a span


@pytest.fixture
def contrib():
    return trace.get_tracer("opentelemetry.instrumentation.anything")


def take(rig):
    return rig.runtime.tracker.acquire(NamedHandle("redis.connection", "thing"), sys._getframe())


def over(handle):
    return owner.finished(handle, owner.current_frames())


def test_the_call_ends_and_its_caller_does_not(rig, tracer, contrib):
    with tracer.start_as_current_span("job") as job:
        with contrib.start_as_current_span("connect", kind=CLIENT), contrib.start_as_current_span("PING", kind=CLIENT):
            handle = take(rig)
        assert handle.span is job
        assert not over(handle)
    assert over(handle)


def test_a_call_within_a_trace_that_came_from_elsewhere_belongs_to_that(rig, contrib):
    elsewhere = trace.SpanContext(7, 9, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(elsewhere)), contrib.start_as_current_span("PING", kind=CLIENT):
        handle = take(rig)
    assert owner.describe(handle).span == elsewhere


def test_a_call_without_caller_says_nothing_by_its_end(rig, contrib):
    def work():
        with contrib.start_as_current_span("PING", kind=CLIENT) as span:
            handle = take(rig)
        assert handle.span is span
        assert not over(handle), "the function that acquired goes on"
        return handle

    assert not over(work()), "so does the one that called it"


@pytest.mark.parametrize(
    ("scope", "kind"),
    [("app", CLIENT), ("opentelemetry.instrumentation.celery", trace.SpanKind.CONSUMER)],
)
def test_any_other_span_is_the_owner_itself(rig, tracer, scope, kind):
    with (
        tracer.start_as_current_span("job"),
        trace.get_tracer(scope).start_as_current_span("step", kind=kind) as step,
    ):
        handle = take(rig)
    assert handle.span is step
    assert over(handle)

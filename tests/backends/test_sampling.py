"""What arrives whatever samples, in the process (head) and in the gateway (tail), and however late the leak is."""

from __future__ import annotations

import os
import sys
import time
from typing import NamedTuple

import made_up
import pytest
import stack

sys.path.append(str(stack.HERE.parent))
import programs

from crawlo_otel_leaks import semconv

pytest_plugins = ["running_stack"]
pytestmark = pytest.mark.backends

WAIT = 3
SAMPLERS = {
    "always_on": {"OTEL_TRACES_SAMPLER": "always_on"},
    "always_off": {"OTEL_TRACES_SAMPLER": "always_off"},
    "ratio_0": {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    "parent_off": {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    "parent_ratio_0": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    "on_leaks_sampled": {"OTEL_TRACES_SAMPLER": "always_on", "LEAK_SPANS": "sampled"},
    "off_leaks_sampled": {"OTEL_TRACES_SAMPLER": "always_off", "LEAK_SPANS": "sampled"},
    "on_leaks_off": {"OTEL_TRACES_SAMPLER": "always_on", "LEAK_SPANS": "off"},
}
# Whether the leak span, the acquiring span, the log event and the metric arrive. An acquiring span that the head
# sampler drops is nowhere; the tail sampler here keeps those with a leak span alone.
ARRIVES = {
    "always_on": (True, True, True, True),
    "always_off": (True, False, True, True),
    "ratio_0": (True, False, True, True),
    "parent_off": (True, False, True, True),
    "parent_ratio_0": (True, False, True, True),
    "on_leaks_sampled": (True, True, True, True),
    "off_leaks_sampled": (False, False, True, True),
    "on_leaks_off": (False, False, True, True),
}
SOURCE = """
    from opentelemetry import trace
    def drop():
        left = open("dropped.txt", "w")
    with trace.get_tracer("app").start_as_current_span("acquiring"):
        drop()
"""


class Line(NamedTuple):
    """A gateway that keeps no trace but those with leaks, and what is before and behind it."""

    jaeger: stack.Jaeger
    gateway: stack.Collector
    agent: stack.Collector


@pytest.fixture(scope="module")
def line(running):
    jaeger = running(stack.Jaeger)
    settings = {"TRACES": jaeger.otlp, "DECISION_WAIT": f"{WAIT}s", "SAMPLING_PERCENTAGE": "0"}
    gateway = running(stack.Collector, "gateway", "gateway.yaml", **settings)
    return Line(jaeger, gateway, running(stack.Collector, "agent", "agent.yaml", GATEWAY=gateway.grpc))


@pytest.fixture(scope="module")
def matrix(line, tmp_path_factory):
    """All samplers' programs at once, so that one wait for the tail sampler is enough."""
    for name, settings in SAMPLERS.items():
        named = {"OTEL_SERVICE_NAME": name, **settings}
        done = programs.run(tmp_path_factory.mktemp(name), SOURCE, line.agent.endpoint, **named)
        assert (done.returncode, done.stderr) == (0, "")
    time.sleep(WAIT + 3)
    return line


def _spans(jaeger, service):
    return {span["operationName"] for trace in jaeger.traces(service) for span in trace["spans"]}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_arrives_under_each_head_sampler(matrix, sampler):
    spans = _spans(matrix.jaeger, sampler)
    lines = matrix.gateway.events.read_text().splitlines()
    event = any(semconv.LEAK_DETECTED in line and f'"{sampler}"' in line for line in lines)
    exposed = stack.fetch_text(f"http://{matrix.gateway.prometheus}/metrics").splitlines()
    metric = any(line.startswith("crawlo_leak_count_total") and f'job="{sampler}"' in line for line in exposed)
    assert ("leak file" in spans, "acquiring" in spans, event, metric) == ARRIVES[sampler]


def _trace(sender, source, leak_after):
    """Send a trace of two spans, and the leak that belongs to it so many seconds later; None for no leak."""
    trace_id = os.urandom(16)
    root = made_up.page(trace_id)
    child = made_up.page(trace_id, root.span_id)
    sender.traces(made_up.traces(source, [root, child]))
    due = None if leak_after is None else time.monotonic() + leak_after
    return trace_id, child.span_id, due


def test_a_leak_told_before_the_decision_keeps_its_trace_a_later_one_arrives_alone_and_no_leak_keeps_nothing(line):
    source = made_up.resource(1, "late")
    with made_up.Sender(line.gateway.grpc) as sender:
        sent = {after: _trace(sender, source, after) for after in (0.0, WAIT / 2, WAIT * 2.5, None)}
        for trace_id, span_id, due in sent.values():
            if due is not None:
                time.sleep(max(0.0, due - time.monotonic()))
                sender.traces(made_up.traces(source, [made_up.leak(trace_id, span_id)]))
    time.sleep(WAIT + 3)
    arrived = {after: _size(line.jaeger, trace_id) for after, (trace_id, _, _) in sent.items()}
    assert arrived == {0.0: 3, WAIT / 2: 3, WAIT * 2.5: 1, None: 0}


def test_a_second_leak_of_a_kept_trace_joins_it_after_the_decision(line):
    source = made_up.resource(1, "late")
    with made_up.Sender(line.gateway.grpc) as sender:
        trace_id, span_id, _ = _trace(sender, source, None)
        sender.traces(made_up.traces(source, [made_up.leak(trace_id, span_id)]))
        time.sleep(WAIT + 3)
        sender.traces(made_up.traces(source, [made_up.leak(trace_id, span_id, 2), made_up.page(trace_id, span_id)]))
        stack.wait(lambda: _size(line.jaeger, trace_id) == 5, 20, "the late spans of a kept trace")


def _size(jaeger, trace_id):
    trace = jaeger.trace(trace_id.hex())
    return len(trace["spans"]) if trace else 0


def _counted(gateway, job):
    """Return what a gateway counted of a job's leak spans, a number for each line and reason."""
    exposed = stack.fetch_text(f"http://{gateway.prometheus}/metrics").splitlines()
    told = [one for one in exposed if one.startswith("crawlo_leak_spans_total") and f'job="{job}"' in one]
    return [float(one.rsplit(" ", 1)[1]) for one in told]


def test_secrets_are_masked_on_the_way(line):
    trace_id = os.urandom(16)
    page = made_up.span(
        "page",
        trace_id,
        **{"url.full": "https://ann:hunter2@shop.example/", "db.password": "hunter2", "query": "a=1&token=hunter2"},
    )
    with made_up.Sender(line.gateway.grpc) as sender:
        sender.traces(made_up.traces(made_up.resource(1, "secret"), [page, made_up.leak(trace_id, page.span_id)]))
    trace = stack.wait(lambda: _size(line.jaeger, trace_id) == 2 and line.jaeger.trace(trace_id.hex()), 20, "the trace")
    assert "hunter2" not in str(trace)
    leak = next(span for span in trace["spans"] if span["operationName"].startswith("leak "))
    assert {"key": semconv.CODE_STACKTRACE, "type": "string", "value": made_up.STACK} in leak["tags"]


def test_two_gateways_share_the_traces_and_each_gets_whole_ones(line, running):
    settings = {"TRACES": line.jaeger.otlp, "DECISION_WAIT": f"{WAIT}s", "SAMPLING_PERCENTAGE": "0"}
    second = running(stack.Collector, "gateway", "gateway.yaml", **settings)
    shards = {"GATEWAY": line.gateway.grpc, "GATEWAY_1": second.grpc}
    agent = running(stack.Collector, "agent", "agent.yaml", "sharded.yaml", **shards)
    source = made_up.resource(1, "sharded")
    with made_up.Sender(agent.grpc) as sender:
        sent = [_trace(sender, source, None) for _ in range(40)]
        for trace_id, span_id, _ in sent:
            sender.traces(made_up.traces(source, [made_up.leak(trace_id, span_id)]))
    stack.wait(lambda: all(_size(line.jaeger, trace_id) == 3 for trace_id, _, _ in sent), 30, "whole traces")
    assert [len(_counted(one, "sharded")) for one in (line.gateway, second)] == [1, 1]


def test_the_leak_spans_of_one_line_are_counted_over_all_batches(line):
    source = made_up.resource(1, "counted")
    with made_up.Sender(line.gateway.grpc) as sender:
        for count in (1, 2, 3):
            sender.traces(made_up.traces(source, [made_up.leak(os.urandom(16), os.urandom(8)) for _ in range(count)]))
    stack.wait(lambda: _counted(line.gateway, "counted") == [6.0], 20, "six leak spans")

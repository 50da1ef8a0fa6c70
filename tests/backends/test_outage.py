"""The gateway is killed for a minute under load, as by a machine's end: of what was queued, nothing is lost."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import made_up
import pytest
import stack

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["running_stack"]
pytestmark = pytest.mark.backends

OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "60"))
BEFORE = AFTER = 5.0
ARRIVAL = 180.0
"""Seconds in which all has to be there, on a machine that is busy with other tests too."""
LEAKS = 10
"""Leak spans, and as many log events, in a request; between two there is a tenth of a second."""


class Sent(NamedTuple):
    """What the agent has accepted."""

    spans: set[str]
    events: set[int]
    pages: set[str]


class Load(threading.Thread):
    """Sends leaks, their events and the pages around them to an agent until told to stop."""

    def __init__(self, agent: stack.Collector) -> None:
        super().__init__(daemon=True)
        self.sent = Sent(set(), set(), set())
        self.stopped = threading.Event()
        self._agent = agent

    def run(self) -> None:
        source = made_up.resource(1, "load")
        with made_up.Sender(self._agent.grpc) as sender:
            while not self.stopped.wait(0.1):
                self._send(sender, source)

    def _send(self, sender: made_up.Sender, source: object) -> None:
        trace_id, number = os.urandom(16), len(self.sent.events)
        page = made_up.page(trace_id)
        leaks = [made_up.leak(trace_id, page.span_id, number + one) for one in range(LEAKS)]
        sender.traces(made_up.traces(source, [page, *leaks]))
        self.sent.spans.update(leak.span_id.hex() for leak in leaks)
        self.sent.pages.add(page.span_id.hex())
        events = [made_up.event(trace_id, page.span_id, number + one) for one in range(LEAKS)]
        sender.logs(made_up.logs(source, events))
        self.sent.events.update(range(number, number + LEAKS))


def _events(path) -> Iterator[int]:
    for line in path.read_text().splitlines():
        for group in json.loads(line)["resourceLogs"]:
            for record in group["scopeLogs"][0]["logRecords"]:
                told = {pair["key"]: pair["value"] for pair in record["attributes"]}
                yield int(told[semconv.HANDLE_ID]["intValue"])


def _spans(jaeger, operation):
    traces = jaeger.traces("load", operation)
    return {span["spanID"] for trace in traces for span in trace["spans"] if span["operationName"] == operation}


@pytest.fixture(scope="module")
def survived(running):
    """Load, kill, wait, start again, and let it come to rest."""
    jaeger = running(stack.Jaeger)
    settings = {"TRACES": jaeger.otlp, "DECISION_WAIT": "4s", "SAMPLING_PERCENTAGE": "0"}
    gateway = running(stack.Collector, "gateway", "gateway.yaml", **settings)
    agent = running(stack.Collector, "agent", "agent.yaml", GATEWAY=gateway.grpc)
    load = Load(agent)
    load.start()
    time.sleep(BEFORE)
    gateway.kill()
    time.sleep(OUTAGE)
    gateway.start()
    time.sleep(AFTER)
    load.stopped.set()
    load.join(30)
    assert not load.is_alive()
    return load.sent, gateway, jaeger


def test_every_leak_span_arrives(survived):
    sent, _, jaeger = survived
    assert len(sent.spans) > 8 * LEAKS * (BEFORE + OUTAGE + AFTER) * 0.8
    stack.wait(lambda: _spans(jaeger, "leak http.session") >= sent.spans, ARRIVAL, "every leak span")


def test_every_event_arrives(survived):
    sent, gateway, _ = survived
    stack.wait(lambda: set(_events(gateway.events)) >= sent.events, ARRIVAL, "every event")


def test_of_the_other_spans_only_those_are_lost_that_waited_in_the_samplers_memory(survived):
    sent, _, jaeger = survived
    waiting = 10 * 4  # requests a second x decision_wait

    def most_arrived() -> bool:
        return len(sent.pages - _spans(jaeger, "GET /catalogue/{page}")) <= waiting * 2

    stack.wait(most_arrived, ARRIVAL, "but for those, every page")

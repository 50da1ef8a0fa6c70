"""Which holds get a span."""

from __future__ import annotations

import programs
import pytest
from receiver import HttpReceiver

HOLDS = """
    import time
    from opentelemetry import trace
    from crawlo_otel_leaks import release, track

    class Thing:
        pass

    with trace.get_tracer("app").start_as_current_span("acquiring"):
        for kind in ("http.session", "http.connection", "redis.connection", "db.connection", "custom"):
            things = [track(Thing(), kind=kind, name=name) for name in ("short", "long")]
            release(things[0])
            time.sleep(0.15)
            release(things[1])
        with open("short.txt", "w"):
            pass
    unspanned = track(Thing(), kind="db.connection", name="no span")
    time.sleep(0.15)
    release(unspanned)
"""
DEFAULT = {"hold http.session", "hold http.connection", "hold redis.connection", "hold db.connection"}


@pytest.mark.parametrize(
    ("settings", "spans", "count"),
    [
        ({}, DEFAULT, 4),
        ({"HOLD_MIN": "0"}, DEFAULT, 8),
        ({"HOLD_MIN": "5"}, set(), 0),
        ({"HOLD_MIN": "0", "HOLD_SPANS": "file,custom"}, {"hold file", "hold custom"}, 3),
    ],
    ids=["default", "every hold", "none so long", "chosen kinds"],
)
def test_hold_spans_are_of_the_chosen_kinds_and_lengths(tmp_path, settings, spans, count):
    with HttpReceiver() as receiver:
        assert programs.run(tmp_path, HOLDS, receiver, **settings).returncode == 0
        assert {hold.data.name for hold in receiver.spans("hold ")} == spans
        assert len(receiver.spans("hold ")) == count
        parent = receiver.span("acquiring").data.span_id
        assert all(hold.data.parent_span_id == parent for hold in receiver.spans("hold "))

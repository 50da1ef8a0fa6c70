"""Which samplers let the leak span and the event through: all of them."""

from __future__ import annotations

import programs
import pytest
from receiver import HttpReceiver

from crawlo_otel_leaks import semconv

# The sampler matrix. "ended": the acquiring span ended long before the verdict; "open": it is still
# open when the file is dropped. In either, one more file is only held, and its owner has finished.
MATRIX = """
    import asyncio
    import time
    from opentelemetry import trace

    tracer = trace.get_tracer("app")

    def drop():
        left = open("dropped.txt", "w")

    def hold():
        with tracer.start_as_current_span("acquiring"):
            drop()
            return [open("held.txt", "w")]

    async def hold_in_task():
        return hold()

    async def main():
        kept = await asyncio.create_task(hold_in_task())
        await asyncio.sleep(1)
        kept[0].close()

    if "{how}" == "task":
        asyncio.run(main())
    elif "{how}" == "open":
        with tracer.start_as_current_span("acquiring"):
            drop()
            time.sleep(1)
    else:
        kept = hold()
        time.sleep(1)
        kept[0].close()
"""
SAMPLED = {"always_on": "", "parentbased_always_on": ""}
UNSAMPLED = {
    "always_off": "",
    "traceidratio": "0.0",
    "parentbased_always_off": "",
    "parentbased_traceidratio": "0.0",
}
EXPECTED = {
    "ended": [("dropped.txt", "abandoned"), ("held.txt", "owner_finished")],
    "task": [("dropped.txt", "abandoned"), ("held.txt", "owner_finished")],
    "open": [("dropped.txt", "abandoned")],
}


def _named(items):
    return sorted((item.attributes[semconv.HANDLE_NAME], item.attributes[semconv.LEAK_REASON]) for item in items)


def _matrix(receiver, where, how, sampler, **settings):
    argument = {**SAMPLED, **UNSAMPLED}[sampler]
    environment = {"OTEL_TRACES_SAMPLER": sampler, **({"OTEL_TRACES_SAMPLER_ARG": argument} if argument else {})}
    done = programs.run(where, MATRIX.replace("{how}", how), receiver, **environment, **settings)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", sorted(EXPECTED))
@pytest.mark.parametrize("sampler", [*SAMPLED, *UNSAMPLED])
def test_the_leak_span_and_the_event_arrive_under_every_sampler(tmp_path, sampler, how):
    with HttpReceiver() as receiver:
        _matrix(receiver, tmp_path, how, sampler)
        assert _named(receiver.events(semconv.LEAK_DETECTED)) == EXPECTED[how]
        assert _named(receiver.spans("leak ")) == EXPECTED[how]
        assert len(receiver.spans("acquiring")) == (sampler in SAMPLED)
        events = {(event.data.trace_id, event.data.span_id) for event in receiver.events(semconv.LEAK_DETECTED)}
        assert {(leak.data.trace_id, leak.data.parent_span_id) for leak in receiver.spans("leak ")} == events
        assert len(events) == 1
        assert b"" not in events.pop()


@pytest.mark.parametrize("sampler", [*SAMPLED, *UNSAMPLED])
@pytest.mark.parametrize("choice", ["sampled", "off"])
def test_leak_spans_can_be_kept_to_sampled_traces_or_switched_off_and_the_event_arrives(tmp_path, sampler, choice):
    with HttpReceiver() as receiver:
        _matrix(receiver, tmp_path, "ended", sampler, LEAK_SPANS=choice)
        assert _named(receiver.events(semconv.LEAK_DETECTED)) == EXPECTED["ended"]
        wanted = EXPECTED["ended"] if choice == "sampled" and sampler in SAMPLED else []
        assert _named(receiver.spans("leak ")) == wanted


UNSPANNED = """
    def drop():
        left = open("dropped.txt", "w")
    drop()
"""


@pytest.mark.parametrize(
    ("sampler", "choice", "spans"),
    [("always_on", "sampled", 1), ("always_off", "sampled", 0), ("always_off", "all", 1), ("always_on", "off", 0)],
)
def test_without_a_trace_the_leak_span_is_a_root_and_in_sampled_the_sampler_decides(tmp_path, sampler, choice, spans):
    with HttpReceiver() as receiver:
        programs.run(tmp_path, UNSPANNED, receiver, OTEL_TRACES_SAMPLER=sampler, LEAK_SPANS=choice)
        assert len(receiver.spans("leak ")) == spans
        assert all(leak.data.parent_span_id == b"" for leak in receiver.spans("leak "))
        (event,) = receiver.events()
        assert event.data.trace_id == event.data.span_id == b""

"""Which samplers let the leak span and the event through: all of them."""

from __future__ import annotations

import programs
import pytest
from receiver import HttpReceiver

from crawlo_otel_leaks import semconv

# The sampler matrix. "ended": the acquiring span ended long before the verdict; "open": it is still open when the file
# is dropped; "task": it was a task's. But for "open", one more file is only held, and its owner has finished.
MATRIX = """
    import asyncio
    import time
    from opentelemetry import trace

    tracer = trace.get_tracer("app")

    def drop(how):
        left = open(f"{how} dropped.txt", "w")

    def hold(how):
        with tracer.start_as_current_span(how):
            drop(how)
            return [open(f"{how} held.txt", "w")]

    async def hold_in_task():
        return hold("task")

    async def main():
        kept = await asyncio.create_task(hold_in_task())
        await asyncio.sleep(1)
        kept[0].close()

    kept = hold("ended")
    asyncio.run(main())
    with tracer.start_as_current_span("open"):
        drop("open")
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
HOW = ("ended", "open", "task")
EXPECTED = [
    ("ended dropped.txt", "abandoned"),
    ("ended held.txt", "owner_finished"),
    ("open dropped.txt", "abandoned"),
    ("task dropped.txt", "abandoned"),
    ("task held.txt", "owner_finished"),
]


def _named(items):
    return sorted((item.attributes[semconv.HANDLE_NAME], item.attributes[semconv.LEAK_REASON]) for item in items)


def _of(how, items):
    return [item for item in items if item.attributes[semconv.HANDLE_NAME].startswith(how)]


def _matrix(receiver, where, sampler, **settings):
    argument = {**SAMPLED, **UNSAMPLED}[sampler]
    environment = {"OTEL_TRACES_SAMPLER": sampler, **({"OTEL_TRACES_SAMPLER_ARG": argument} if argument else {})}
    done = programs.run(where, MATRIX, receiver, **environment, **settings, **programs.UNCOVERED)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("sampler", [*SAMPLED, *UNSAMPLED])
def test_the_leak_span_and_the_event_arrive_under_every_sampler(tmp_path, sampler):
    with HttpReceiver() as receiver:
        _matrix(receiver, tmp_path, sampler)
        events, spans = receiver.events(semconv.LEAK_DETECTED), receiver.spans("leak ")
        assert _named(events) == EXPECTED
        assert _named(spans) == EXPECTED
        for how in HOW:
            assert len(receiver.spans(how)) == (sampler in SAMPLED)
            holders = {(event.data.trace_id, event.data.span_id) for event in _of(how, events)}
            assert {(leak.data.trace_id, leak.data.parent_span_id) for leak in _of(how, spans)} == holders
            assert len(holders) == 1
            assert b"" not in holders.pop()


@pytest.mark.parametrize("sampler", [*SAMPLED, *UNSAMPLED])
@pytest.mark.parametrize("choice", ["sampled", "off"])
def test_leak_spans_can_be_kept_to_sampled_traces_or_switched_off_and_the_event_arrives(tmp_path, sampler, choice):
    with HttpReceiver() as receiver:
        _matrix(receiver, tmp_path, sampler, LEAK_SPANS=choice)
        assert _named(receiver.events(semconv.LEAK_DETECTED)) == EXPECTED
        wanted = EXPECTED if choice == "sampled" and sampler in SAMPLED else []
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

from __future__ import annotations

import contextlib
import contextvars
import errno
import json
from pathlib import Path

import jsonschema
import pytest
from opentelemetry import trace

from crawlo_otel_leaks import blame, findings, release, scope, semconv, shortages, track
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.report import reasons

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "report.schema.json").read_text())
DB = semconv.DB_CONNECTION
"""A kind with a threshold, 30 s."""


class Thing:
    """Something of the user's own."""


def take(name="thing", kind=semconv.CUSTOM):
    return track(Thing(), kind=kind, name=name)


def report_of(rig):
    """The report, after a look at its JSON: it must be what the schema says, and the schema must say all of it."""
    report = rig.runtime.report()
    data = json.loads(report.as_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert set(data) == set(SCHEMA["properties"])
    whole = SCHEMA["$defs"]["shortage"]["properties"]
    for shortage in data["shortages"]:
        assert set(shortage) == set(whole)
        groups = whole["holders"]["items"]["properties"]
        assert all(set(group) == set(groups) for group in shortage["holders"])
    for entry in data["leaks"]:
        assert set(entry) == set(SCHEMA["$defs"]["entry"]["properties"])
        assert set(entry["owner"]) == set(SCHEMA["$defs"]["entry"]["properties"]["owner"]["properties"])
        for frame in (entry["site"], *entry["stack"]):
            assert set(frame) == set(SCHEMA["$defs"]["frame"]["properties"])
    return report


def test_where_nothing_leaks_the_report_is_healthy_and_tells_what_is_held(rig):
    kept = take()
    release(take())
    rig.settle()
    report = report_of(rig)
    assert (report.status, report.leaks, report.handles) == ("healthy", [], {"by_kind": {"custom": 1}})
    release(kept)
    assert report_of(rig).handles == {"by_kind": {}}


def test_slow_alone_is_told_and_healthy(rig):
    kept = track(Thing(), kind=DB, name="in use")
    rig.pass_time(40)
    report = report_of(rig)
    assert [(entry.reason, entry.count, entry.resolved) for entry in report.leaks] == [("slow", 1, False)]
    assert (report.status, report.accused) == ("healthy", [])
    release(kept)


def test_resolved_alone_is_told_and_healthy(rig):
    with scope("import"):
        kept = take()
    rig.settle()
    held = rig.clock.now - rig.held[0].acquired_at
    assert report_of(rig).status == "leak_detected"
    release(kept)
    rig.pass_time(50)
    report = report_of(rig)
    assert [(entry.reason, entry.resolved) for entry in report.leaks] == [("scope_end", True)]
    assert (report.status, report.accused) == ("healthy", [])
    assert report.leaks[0].held_s == pytest.approx(held, abs=0.001), "the hold ended with the release"


def test_abandoned_is_never_resolved_though_nothing_is_held_any_more(rig):
    for _ in range(3):
        take()
        rig.clock.advance(1)
    rig.settle()
    report = report_of(rig)
    assert [(entry.reason, entry.count, entry.resolved) for entry in report.leaks] == [("abandoned", 3, False)]
    assert (report.status, report.handles) == ("leak_detected", {"by_kind": {}})
    assert report.leaks[0].held_s == 0


def test_held_grows_while_it_is_held(rig):
    with scope("import"):
        kept = take()
    rig.settle()
    before = report_of(rig).leaks[0].held_s
    rig.pass_time(100)
    assert report_of(rig).leaks[0].held_s == pytest.approx(before + 100, abs=0.002)
    release(kept)


def test_the_longest_hold_is_told_when_the_first_is_resolved_and_another_is_not(rig):
    with scope("import"):
        kept = [take() for _ in range(2)]
    rig.settle()
    held = report_of(rig).leaks[0].held_s
    release(kept.pop(0))
    rig.pass_time(100)
    entry = report_of(rig).leaks[0]
    assert (entry.count, entry.resolved) == (2, False)
    assert held <= entry.held_s <= held + 101
    release(kept.pop())


def test_what_counts_comes_first_and_of_that_the_strongest_and_then_the_most(rig):
    with scope("import"):
        resolved = take("resolved")
        ended = take("ended")
        many = [take("many") for _ in range(2)]
    slow = track(Thing(), kind=DB, name="slow")
    rig.pass_time(40, steps=40)
    take("abandoned")
    release(resolved)
    rig.pass_time(1)
    report = report_of(rig)
    told = [(entry.reason, entry.name, entry.count) for entry in report.leaks]
    assert told == [
        ("abandoned", "abandoned", 1),
        ("scope_end", "many", 2),
        ("scope_end", "ended", 1),
        ("scope_end", "resolved", 1),
        ("slow", "slow", 1),
    ]
    assert (report.status, len(report.accused), report.accused_handles) == ("leak_detected", 3, 4)
    for thing in (ended, slow, *many):
        release(thing)


def test_a_leak_that_grew_stronger_leaves_its_old_reason_to_the_others(rig):
    """The finding that it moves out of still knows it as its first."""

    def enter(stretch):
        stretch.__enter__()
        rig.clock.advance(20)
        return take(kind=DB)

    things = [contextvars.copy_context().run(enter, stretch) for stretch in (scope("a"), contextlib.nullcontext())]
    rig.pass_time(40, steps=40)
    assert [(entry.reason, entry.count) for entry in report_of(rig).leaks] == [("held_too_long", 2)]
    rig.runtime.end_scope(next(handle.scope for handle in rig.held if handle.scope))
    rig.pass_time(20, steps=20)
    entries = report_of(rig).leaks
    assert [(entry.reason, entry.count) for entry in entries] == [("scope_end", 1), ("held_too_long", 1)]
    assert len({entry.fingerprint for entry in entries}) == 1
    older, younger = (rig.clock.now - handle.acquired_at for handle in rig.held)
    assert entries[0].held_s == pytest.approx(older, abs=0.002)
    assert entries[1].held_s <= younger + 0.002, "what moved on is no longer the longest here"
    for thing in things:
        release(thing)


def test_what_found_no_place_is_counted(rig, monkeypatch):
    monkeypatch.setattr(findings, "LIMIT", 1)
    take("kept")
    rig.pass_time(1)
    assert report_of(rig).left_out == 0
    take("one too many")
    rig.pass_time(1)
    report = report_of(rig)
    assert ([entry.name for entry in report.leaks], report.left_out) == (["kept"], 1)
    assert report.status == "leak_detected"


def test_with_leaks_left_out_nobody_can_say_healthy(rig, monkeypatch):
    monkeypatch.setattr(findings, "LIMIT", 0)
    take()
    rig.pass_time(1)
    report = report_of(rig)
    assert (report.leaks, report.left_out, report.status) == ([], 1, "insufficient_data")


def test_an_entry_tells_line_stack_owner_and_trace(rig, tracer):
    with tracer.start_as_current_span("request") as span, scope("import"):
        take("lock")
    rig.pass_time(1)
    entry = report_of(rig).leaks[0]
    context = span.get_span_context()
    assert (entry.trace_id, entry.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert entry.site == entry.stack[0]
    assert entry.site["function"].endswith("take")
    assert entry.site["text"] == "return track(Thing(), kind=kind, name=name)"
    assert entry.stack[1]["function"].endswith("test_an_entry_tells_line_stack_owner_and_trace")
    assert (entry.owner["thread"], entry.owner["scope"], entry.owner["task"]) == ("MainThread", "import", None)


def test_the_command_is_the_program_without_its_arguments(rig, monkeypatch):
    monkeypatch.setattr("sys.argv", ["crawl.py", "--password", "hunter2"])
    report = report_of(rig)
    assert report.command == "crawl.py"
    assert "hunter2" not in report.as_json()


def test_schema_reasons_and_kinds_are_those_of_the_code():
    entry = SCHEMA["$defs"]["entry"]["properties"]
    assert entry["reason"]["enum"] == [reason.value for reason in Reason] == list(reasons.REASONS)
    assert SCHEMA["$defs"]["kind"]["enum"] == list(semconv.KINDS)


@pytest.mark.parametrize(
    ("key", "value"), [("schema", "crawlo-leaks/2"), ("status", "fine"), ("leaks", [{"kind": "file"}]), ("process", {})]
)
def test_the_schema_refuses_what_is_no_report(rig, key, value):
    data = json.loads(rig.runtime.report().as_json())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate({**data, key: value})


def test_what_ran_out_is_told_once_with_its_newest_holders(rig, tracer):
    with tracer.start_as_current_span("waiter") as span:
        blame.explain(rig.runtime.tracker, OSError(errno.EMFILE, "Too many open files"))
        kept = take(kind=semconv.FILE)
        blame.explain(rig.runtime.tracker, OSError(errno.EMFILE, "Too many open files"))
    assert report_of(rig).shortages == []
    rig.runtime.tick()
    (shortage,) = report_of(rig).shortages
    assert (shortage.name, shortage.count, shortage.held) == ("descriptors", 2, 1)
    assert shortage.span_id == f"{span.get_span_context().span_id:016x}"
    (group,) = shortage.holders
    assert (group["count"], group["owner_finished"]) == (1, False)
    assert "test_report_build.py:" in group["where"]
    release(kept)


def test_only_so_many_shortages_are_told_apart(rig):
    nobody = trace.INVALID_SPAN_CONTEXT
    for number in range(shortages.LIMIT + 5):
        pool = f"pool {number}"
        told = blame.Exhaustion(f"connections of {pool}", DB, pool, 0, None, 1.0, (), nobody)
        rig.runtime.tracker.exhausted.append(told)
    rig.runtime.tick()
    report = report_of(rig)
    assert len(report.shortages) == shortages.LIMIT
    assert report.shortages[0].trace_id is None

from __future__ import annotations

import asyncio

import pytest

from crawlo_otel_leaks import release, runs, track
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor
from crawlo_otel_leaks.owner import current_scope


class Thing:
    pass


def begin(rig, spider="spider"):
    run = rig.runtime.runs.begin(spider)
    current_scope.set(run.scope)
    return run


def end(rig, run, outcome=runs.FINISHED):
    current_scope.set(run.scope.parent)
    rig.runtime.runs.end(run, outcome)


@pytest.fixture
def told(rig):
    """A run that has leaked one thing."""
    run = begin(rig)
    thing = track(Thing())
    end(rig, run)
    return run, thing


def shown(rig):
    return [(run.verdict, run.leaks, run.open) for run in rig.runtime.report().runs]


def test_what_is_released_within_the_grace_is_no_leak(rig):
    run = begin(rig)
    thing = track(Thing())
    end(rig, run)
    rig.pass_time(9.0, steps=9)
    assert shown(rig) == [("insufficient_data", 0, {"custom": 1})]
    release(thing)
    rig.settle()
    assert (shown(rig), rig.verdicts) == ([("healthy", 0, {})], [])


def test_a_task_that_ends_within_the_grace_is_no_leak(rig):
    TasksInstrumentor().instrument()

    async def main():
        run = begin(rig)
        task = asyncio.ensure_future(asyncio.Event().wait())
        end(rig, run, runs.CANCELLED)
        rig.pass_time(9.0, steps=9)
        assert shown(rig) == [("insufficient_data", 0, {"task": 1})]
        task.cancel()
        await asyncio.wait([task])
        rig.settle()

    asyncio.run(main())
    TasksInstrumentor().uninstrument()
    assert shown(rig) == [("healthy", 0, {})]
    assert rig.verdicts == []


def test_a_leak_is_told_with_its_run(rig, told, telemetry):
    run, _thing = told
    rig.settle()
    assert shown(rig) == [("leak_detected", 1, {"custom": 1})]
    (event,) = telemetry.events("crawlo.run.judged")
    assert event.severity_text == "WARN"
    assert event.attributes["crawlo.run.leaks"] == 1
    assert event.attributes["crawlo.run.held"] == 1
    assert event.attributes["crawlo.run.id"] == run.run_id
    assert "1 custom" in event.body


def test_a_leak_that_shows_up_after_the_verdict_changes_it(rig, telemetry):
    run = begin(rig)
    thing = track(Thing())
    end(rig, run)
    run_of = rig.runtime.runs.of(run.scope)
    assert run_of is run
    rig.runtime.find(thing).process = True
    rig.settle()
    assert shown(rig) == [("healthy", 0, {})]
    del thing
    rig.settle()
    assert shown(rig) == [("leak_detected", 1, {})]
    verdicts = [event.attributes["crawlo.run.verdict"] for event in telemetry.events("crawlo.run.judged")]
    assert verdicts == ["healthy", "leak_detected"]


def test_what_a_scope_within_a_run_takes_is_the_runs(rig):
    from crawlo_otel_leaks import scope  # noqa: PLC0415  (a name of a fixture elsewhere)

    run = begin(rig)
    with scope("inner"):
        thing = track(Thing())
    end(rig, run)
    rig.settle()
    assert shown(rig) == [("leak_detected", 1, {"custom": 1})]
    assert rig.recorder.opened_leaks[0].owner.run_id == run.run_id
    assert thing


def test_what_belongs_to_the_process_is_no_runs(rig, told):
    _run, thing = told
    rig.runtime.find(thing).process = True
    assert rig.runtime.report().runs[0].open == {}


def test_at_the_end_of_the_process_every_run_is_judged(rig, told, telemetry):
    rig.runtime.finish(exiting=True)
    assert [event.attributes["crawlo.run.verdict"] for event in telemetry.events("crawlo.run.judged")] == [
        "leak_detected"
    ]


def test_runs_are_bounded_and_healthy_ones_go_first(rig, told):
    leaky, _thing = told
    rig.settle()
    for _ in range(runs.KEPT):
        end(rig, begin(rig, "other"))
    rig.settle()
    for _ in range(10):
        end(rig, begin(rig, "newest"))
    kept = rig.runtime.runs.kept
    assert len(kept) == runs.KEPT
    assert kept[0] is leaky
    assert rig.runtime.report().runs_left_out == rig.runtime.runs.left_out == 11


def test_spiders_beyond_the_hundredth_have_no_name_in_metrics(rig, telemetry):
    for number in range(101):
        end(rig, begin(rig, f"spider {number}"))
    rig.settle()
    names = {point.attributes["crawlo.spider.name"] for point in telemetry.metrics()["crawlo.run.count"]}
    assert {"spider 99", "other"} <= names
    assert "spider 100" not in names


def test_a_forked_child_has_no_runs(rig, told):
    rig.runtime.runs.clear()
    assert rig.runtime.report().runs == []

"""What is watched while it is monitored, and what is told of it."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest
from leak_steps import cancelled, pending, types
from opentelemetry import trace

from crawlo_otel_leaks import LeakDetector, monitor_crawler, monitor_resource_leaks, semconv

pytest_plugins = ["leaky_work"]


@pytest.fixture
def plain(all_watched):
    """All is watched; no objects are counted by type, which takes time."""
    return functools.partial(monitor_resource_leaks, "work", snapshot_interval=0, types=False)


def test_what_is_left_is_a_leak_in_the_telemetry_too_once_the_grace_is_over(plain, rig, path, tracer):
    kept = []

    @plain()
    def leave():
        kept.append(path.open())

    with tracer.start_as_current_span("request"):
        leave()
    rig.settle()
    kept.pop().close()
    (leak,) = set(rig.recorder.opened_leaks)
    assert leak.reason.value in ("owner_finished", "scope_end")
    assert leak.owner.scope == "work"


def test_the_span_around_it_has_the_verdict(plain, telemetry, path, tracer):
    kept = []
    with tracer.start_as_current_span("request") as above, plain():
        kept.append(path.open())
        inner = trace.get_current_span()
    kept.pop().close()
    (span,) = telemetry.spans("monitor ")
    assert span.name == "monitor work"
    assert span.context == inner.get_span_context()
    assert span.parent.span_id == above.get_span_context().span_id
    assert span.attributes[semconv.MONITOR_NAME] == "work"
    assert span.attributes[semconv.MONITOR_VERDICT] == "leak_detected"
    assert span.attributes[semconv.MONITOR_LEAKS] == 1
    assert span.status.is_unset


def test_three_at_once_are_told_apart(plain, path):
    """Of one and the same decorated function; the second leaks."""
    told, kept, inside, all_inside = {}, [], [], asyncio.Event()

    async def crawl(name, *, leaks):
        async with plain() as monitor:
            file = path.open()
            inside.append(name)
            if len(inside) == 3:
                all_inside.set()
            await all_inside.wait()
            if leaks:
                kept.append(file)
            else:
                file.close()
        told[name] = monitor.analysis["status"]

    async def main():
        await asyncio.gather(*(crawl(name, leaks=name == "second") for name in ("first", "second", "third")))

    asyncio.run(main())
    kept.pop().close()
    assert told == {"first": "healthy", "second": "leak_detected", "third": "healthy"}


def test_one_instance_may_be_entered_side_by_side_and_left_in_any_order(plain):
    shared, opened = plain(), {}

    async def enter(name, entered, leave):
        async with shared as opened[name]:
            entered.set()
            await leave.wait()

    async def main():
        events = [asyncio.Event() for _ in range(4)]
        first = asyncio.create_task(enter("first", *events[:2]))
        await events[0].wait()
        second = asyncio.create_task(enter("second", *events[2:]))
        await events[2].wait()
        events[1].set()
        await first
        between = opened["first"].analysis, opened["second"].analysis
        events[3].set()
        await second
        return between

    first, second = asyncio.run(main())
    assert first["status"] == "healthy"
    assert second is None
    assert opened["second"].analysis["status"] == "healthy"


def test_the_end_is_a_scopes_end_also_where_the_span_of_the_work_goes_on(plain, rig, path, tracer):
    with tracer.start_as_current_span("request") as outer:
        with plain(), trace.use_span(outer):
            file = path.open()
        rig.settle()
        assert rig.verdicts == [("file", "scope_end")]
        file.close()


def test_tasks_that_outlive_the_function_are_told(plain):
    monitor, left = plain(), []

    @monitor
    async def start():
        left.extend(await pending(60))

    async def main():
        await start()
        await cancelled(left)

    asyncio.run(main())
    assert types(monitor.analysis) == {"tasks": 60}


def test_threads_that_outlive_the_function_are_told(plain, idlers):
    monitor = plain()
    monitor(idlers)(5)
    assert types(monitor.analysis) == {"threads": 5}


def test_a_crawlers_name_is_the_spiders_in_what_is_told_of_its_leaks(rig, all_watched, path):
    kept = []

    @monitor_crawler("quotes", snapshot_interval=0, types=False)
    def crawl():
        kept.append(path.open())

    crawl()
    rig.settle()
    kept.pop().close()
    assert rig.recorder.opened_leaks[0].owner.spider == "quotes"


def test_snapshots_are_taken_at_the_interval_and_end_with_the_function(rig):
    enough = threading.Event()
    snapshot = LeakDetector.snapshot

    def noting(self, *args, **kwargs):
        taken = snapshot(self, *args, **kwargs)
        if len(self._snapshots) > 2:
            enough.set()
        return taken

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LeakDetector, "snapshot", noting)
        with monitor_resource_leaks("work", snapshot_interval=0.005, types=False):
            assert enough.wait(10)
            (thread,) = [one for one in threading.enumerate() if one.name == "crawlo-leaks-monitor"]
    thread.join(10)
    assert not thread.is_alive()


def test_objects_are_counted_by_type_before_and_after_also_around_a_coroutine(rig):
    kept = []

    class Kept:
        """Something to be kept."""

    async def main():
        async with monitor_resource_leaks("work", snapshot_interval=0) as monitor:
            kept.extend(Kept() for _ in range(20_000))
        return monitor.analysis

    told = asyncio.run(main())
    assert told["type_changes"][0]["type"].endswith("Kept")
    assert 15_000 < told["type_changes"][0]["growth"] < 25_000

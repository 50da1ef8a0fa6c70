from __future__ import annotations

import asyncio
import functools
import inspect
import logging

import pytest
from leak_steps import types
from opentelemetry import trace

from crawlo_otel_leaks import ResourceLeakMonitor, monitor_crawler, monitor_resource_leaks, monitored
from crawlo_otel_leaks.owner import current_scope

pytest_plugins = ["leaky_work"]
BOTH = pytest.mark.parametrize("verb", [monitor_resource_leaks, monitor_crawler])


@pytest.fixture
def plain(all_watched):
    """All is watched; no objects are counted by type, which takes time."""
    return functools.partial(monitor_resource_leaks, "work", snapshot_interval=0, types=False)


def test_a_monitor_tells_what_was_left_between_start_and_stop(all_watched, path):
    monitor = ResourceLeakMonitor("import")
    monitor.start_monitoring()
    with path.open():
        monitor.take_snapshot("middle")
        told = monitor.stop_monitoring()
    assert types(told) == {"file_descriptors": 1}
    assert monitor.analysis is told
    assert [one.name for one in monitor.leak_detector._snapshots] == ["middle", "stop"]


def test_a_monitor_that_starts_again_begins_anew(all_watched, path):
    monitor = ResourceLeakMonitor("import")
    with path.open():
        monitor.start_monitoring()
        assert monitor.stop_monitoring()["status"] == "healthy"


def test_a_monitor_that_was_never_started_has_not_enough_data(rig):
    assert ResourceLeakMonitor("import").stop_monitoring()["status"] == "insufficient_data"


@BOTH
def test_a_sync_function_keeps_its_result_name_and_signature(all_watched, verb):
    @verb("work")
    def add(one: int, two: int = 2) -> int:
        """Add."""
        return one + two

    assert add(1) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert str(inspect.signature(add)) == "(one: 'int', two: 'int' = 2) -> 'int'"


@BOTH
def test_an_async_function_keeps_its_result_and_stays_one(all_watched, verb):
    @verb("work")
    async def add(one, two):
        await asyncio.sleep(0)
        return one + two

    assert inspect.iscoroutinefunction(add)
    assert asyncio.run(add(1, 2)) == 3


def test_a_function_that_leaves_sessions_open_is_told_and_one_that_closes_them_is_not(plain, sessions, caplog):
    leaking, clean = plain(), plain()

    async def main():
        await leaking(sessions.take)(9)
        await sessions.give_back()
        async with clean:
            await sessions.take(9)
            await sessions.give_back()

    with caplog.at_level(logging.INFO, "crawlo_otel_leaks"):
        asyncio.run(main())
    assert types(leaking.analysis) == {"http_sessions": 9}
    assert clean.analysis["status"] == "healthy"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "9 http_sessions" in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_exception_passes_through_and_is_on_the_span(plain, telemetry, kind):
    monitor = plain()

    @monitor
    def failing():
        raise KeyError("nothing there")

    @monitor
    async def failing_later():
        raise KeyError("nothing there")

    with pytest.raises(KeyError, match="nothing there"):
        failing() if kind == "sync" else asyncio.run(failing_later())
    (span,) = telemetry.spans("monitor ")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.events[0].name == "exception"
    assert monitor.analysis["status"] == "healthy"
    assert not trace.get_current_span().get_span_context().is_valid
    assert current_scope.get() is None


def test_a_function_that_is_cancelled_is_judged_and_stays_cancelled(plain, telemetry):
    monitor = plain()

    async def main():
        started = asyncio.Event()

        @monitor
        async def work():
            started.set()
            await asyncio.Event().wait()

        working = asyncio.ensure_future(work())
        await started.wait()
        working.cancel()
        await asyncio.wait([working])
        return working.cancelled()

    assert asyncio.run(main())
    assert monitor.analysis["status"] == "healthy"
    assert telemetry.spans("monitor ")


def test_a_failure_of_ours_does_not_reach_the_function(rig, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(monitored.LeakDetector, "set_baseline", broken)
    monkeypatch.setattr(monitored.LeakDetector, "snapshot", broken)
    assert monitor_resource_leaks("work", snapshot_interval=0)(lambda: 3)() == 3
    assert rig.runtime.tracker.errors == 2
    rig.runtime.tracker.errors = 0


def test_what_cannot_be_watched_is_refused(rig):
    with pytest.raises(TypeError, match=r"@monitor_crawler\('my_spider'\)"):

        @monitor_crawler
        async def bare():
            pass

    def steps():
        yield 1

    with pytest.raises(TypeError, match="generator"):
        monitor_resource_leaks("work")(steps)
    with pytest.raises(ValueError, match="snapshot_interval=-1"):
        monitor_resource_leaks("work", snapshot_interval=-1)

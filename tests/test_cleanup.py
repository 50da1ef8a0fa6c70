"""How resources are cleaned up: what is called, where, for how long, and what a failure does."""

from __future__ import annotations

import asyncio
import threading

import pytest

from crawlo_otel_leaks import ResourceManager, ResourceStatus


def fail(_):
    raise OSError("cannot be closed")


def clean(managed, **kwargs):
    return asyncio.run(managed.cleanup_all(**kwargs))


@pytest.mark.parametrize("kind", ["sync", "async", "sync without argument", "async without argument", "awaitable"])
def test_a_cleanup_function_is_sync_or_async_and_takes_the_resource_or_nothing(managed, kind, log):
    async def take(resource):
        log.append(resource)

    async def nothing():
        log.append("x")

    functions = {
        "sync": log.append,
        "async": take,
        "sync without argument": lambda: log.append("x"),
        "async without argument": nothing,
        "awaitable": lambda resource: take(resource),  # noqa: PLW0108  (sync, and returns a coroutine)
    }
    managed.register("x", functions[kind])
    assert clean(managed)["success"] == 1
    assert log == ["x"]


def test_a_cleanup_function_that_takes_anything_else_is_refused(managed):
    with pytest.raises(TypeError, match="expected one that takes the resource or no argument"):
        managed.register(1, lambda one, two: None)
    with pytest.raises(TypeError, match="expected one that can be called"):
        managed.register(1, None)
    assert managed.get_stats()["total_registered"] == 0


def test_one_failure_stops_nothing_and_stays_listed(managed, noting, log):
    managed.register("a", noting)
    broken = managed.register("b", fail)
    managed.register("c", noting)
    result = clean(managed)
    assert (result["success"], result["errors"], result["total_resources"], result["cleaned_resources"]) == (2, 1, 3, 2)
    assert log == ["c", "a"]
    assert broken.status is ResourceStatus.ERROR
    assert broken.error == "OSError: cannot be closed"
    assert managed.detect_leaks() == [broken]
    assert managed.get_active_resources() == []


def test_what_failed_is_tried_again(managed):
    outcomes = [OSError("not yet"), None]

    def sometimes():
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome

    resource = managed.register("a", sometimes)
    assert clean(managed)["errors"] == 1
    assert clean(managed)["success"] == 1
    assert resource.status is ResourceStatus.CLOSED
    assert resource.closed_at >= resource.created_at
    assert managed.detect_leaks() == []


def test_a_cleanup_that_is_cancelled_from_within_is_a_failure_like_any_other(managed, noting, log):
    async def cancelled():
        raise asyncio.CancelledError

    managed.register("a", noting)
    managed.register("b", cancelled)
    assert clean(managed)["errors"] == 1
    assert log == ["a"]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_cleanup_that_hangs_is_left_behind_at_its_time_limit(kind, noting, log):
    managed, let_go = ResourceManager("hanging", cleanup_timeout=0.05), threading.Event()
    managed.register("a", noting)
    managed.register("b", let_go.wait if kind == "sync" else asyncio.Event().wait, name="hanging")
    result = clean(managed)
    let_go.set()
    assert (result["success"], result["errors"]) == (1, 1)
    assert result["duration"] < 5
    assert log == ["a"]
    assert [one.name for one in managed.detect_leaks()] == ["hanging"]


def test_a_sync_cleanup_does_not_stop_the_event_loop(managed):
    let_go = threading.Event()

    async def main():
        managed.register("a", lambda: let_go.wait(10))
        cleaning = asyncio.ensure_future(managed.cleanup_all())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        let_go.set()  # which the loop would not come to
        return await cleaning

    assert asyncio.run(main())["success"] == 1


def test_what_belongs_to_the_loop_is_cleaned_up_on_its_thread(managed):
    threads = []

    async def main():
        waiting = asyncio.ensure_future(asyncio.sleep(60))

        def cancel():
            threads.append(threading.get_ident())
            waiting.cancel()

        managed.register("a", cancel)
        managed.register("b", lambda: threads.append(asyncio.get_running_loop() and threading.get_ident()))
        assert (await managed.cleanup_all())["success"] == 2

    asyncio.run(main())
    assert threads == [threading.get_ident()] * 2


def test_a_cleanup_that_is_cancelled_from_outside_leaves_the_rest_listed(managed, noting):
    async def main():
        managed.register("a", noting, name="a")
        managed.register("b", asyncio.Event().wait, name="b")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(managed.cleanup_all(), 0.01)

    asyncio.run(main())
    assert [one.name for one in managed.get_active_resources()] == ["a"]
    assert [one.name for one in managed.detect_leaks()] == ["b"]


def test_two_threads_clean_up_each_resource_once(managed, log):
    started, done = threading.Event(), threading.Event()

    async def slowly(resource):
        log.append(resource)
        started.set()
        await asyncio.get_running_loop().run_in_executor(None, done.wait, 10)

    managed.register("a", slowly)
    other = threading.Thread(target=clean, args=(managed,))
    other.start()
    started.wait(10)
    done_here = clean(managed)
    done.set()
    other.join()
    assert done_here["total_resources"] == 0
    assert log == ["a"]


def test_two_cleanups_at_once_clean_up_each_resource_once(managed, log):
    async def slowly(resource):
        await asyncio.sleep(0)
        log.append(resource)

    async def main():
        for name in "abc":
            managed.register(name, slowly)
        return await asyncio.gather(managed.cleanup_all(), managed.cleanup_all())

    results = asyncio.run(main())
    assert sum(one["success"] for one in results) == 3
    assert log == ["c", "b", "a"]

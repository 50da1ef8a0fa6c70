from __future__ import annotations

import asyncio
import threading
import time

import pytest

import crawlo_otel_leaks
from crawlo_otel_leaks import (
    ResourceManager,
    ResourceStatus,
    ResourceType,
    cleanup_all_managers,
    get_resource_manager,
    manager,
)

KEYS = {"success", "errors", "duration", "total_resources", "cleaned_resources"}


@pytest.fixture
def managed():
    return ResourceManager("tests")


@pytest.fixture
def log():
    return []


@pytest.fixture
def noting(log):
    """Cleanup functions that note the resource."""
    return log.append


@pytest.fixture
def registry():
    before = dict(manager._managers)
    manager._managers.clear()
    yield manager._managers
    manager._managers.clear()
    manager._managers.update(before)


def fail(_):
    raise OSError("cannot be closed")


def clean(managed, **kwargs):
    return asyncio.run(managed.cleanup_all(**kwargs))


def test_the_last_registered_is_cleaned_up_first(managed, noting, log):
    for name in "abc":
        managed.register(name, noting)
    assert clean(managed)["cleaned_resources"] == 3
    assert log == ["c", "b", "a"]


def test_in_reverse_the_first_registered_is_cleaned_up_first(managed, noting, log):
    for name in "abc":
        managed.register(name, noting)
    clean(managed, reverse=False)
    assert log == ["a", "b", "c"]


def test_a_higher_priority_comes_before_order(managed, noting, log):
    managed.register("first", noting, priority=1)
    managed.register("second", noting)
    clean(managed)
    assert log == ["first", "second"]


@pytest.mark.parametrize("reverse", [True, False])
def test_a_dependent_is_cleaned_up_before_what_it_depends_on_whatever_the_priority(managed, noting, log, reverse):
    managed.register_with_dependencies("downloader", noting, ResourceType.DOWNLOADER, "downloader", ["session"])
    managed.register("pool", noting, ResourceType.REDIS_POOL, "pool", priority=10)
    managed.register("session", noting, ResourceType.SESSION, "session", priority=5, depends_on={"pool"})
    clean(managed, reverse=reverse)
    assert log == ["downloader", "session", "pool"]


def test_a_circle_of_dependencies_is_refused_and_named(managed, noting):
    managed.register(1, noting, name="a", depends_on={"b"})
    managed.register(2, noting, name="b", depends_on={"c"})
    with pytest.raises(ValueError, match="c -> a -> b -> c") as refused:
        managed.register(3, noting, name="c", depends_on=["a"])
    assert "resource manager tests" in str(refused.value)
    assert len(managed.get_active_resources()) == 2


def test_what_depends_on_itself_is_refused(managed, noting):
    with pytest.raises(ValueError, match="a -> a"):
        managed.register(1, noting, name="a", depends_on="a")


def test_a_result_has_all_keys_also_where_there_was_nothing(managed):
    result = clean(managed)
    assert set(result) == KEYS
    assert result["total_resources"] == 0


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


def test_one_type_is_cleaned_up_alone(managed, noting, log):
    managed.register("queue", noting, ResourceType.QUEUE)
    managed.register("filter", noting, ResourceType.FILTER)
    assert asyncio.run(managed.cleanup_by_type(ResourceType.QUEUE)) == 1
    assert log == ["queue"]
    assert [one.resource for one in managed.get_resources_by_type(ResourceType.FILTER)] == ["filter"]
    assert managed.get_resources_by_type(ResourceType.QUEUE) == []


def test_what_was_cleaned_up_by_itself_is_not_cleaned_up_again(managed, noting, log):
    resource = managed.register("a", noting)
    assert asyncio.run(resource.cleanup())
    assert asyncio.run(resource.cleanup())
    assert clean(managed)["total_resources"] == 0
    assert log == ["a"]
    assert managed.get_resources_by_type(ResourceType.OTHER) == []


def test_stats_have_all_keys(managed, noting):
    managed.register("a", noting, ResourceType.QUEUE)
    managed.register("b", fail)
    asyncio.run(managed.cleanup_by_type(ResourceType.OTHER))
    assert managed.get_stats() == {
        "total_registered": 2,
        "total_cleaned": 0,
        "total_errors": 1,
        "active_resources": 1,
        "cleanup_errors": 1,
        "active_by_type": {"queue": 1},
    }


def test_what_is_held_for_long_is_a_leak_and_what_is_young_is_none(managed, noting):
    old, _young = managed.register("a", noting), managed.register("b", noting)
    old.created_at = time.time() - 7200
    assert managed.detect_leaks() == [old]
    assert old.get_lifetime() == pytest.approx(7200, abs=60)


def test_the_end_of_a_with_block_cleans_up(noting, log):
    async def main():
        async with ResourceManager("block") as managed:
            managed.register("a", noting)

    asyncio.run(main())
    assert log == ["a"]


def test_a_manager_has_one_instance_a_name_and_is_forgotten_once_all_is_clean(registry, noting, log):
    get_resource_manager("one").register("a", noting)
    get_resource_manager("two").register("b", fail)
    assert get_resource_manager("one") is get_resource_manager("one")
    results = asyncio.run(cleanup_all_managers())
    assert set(results["one"]) == KEYS
    assert list(registry) == ["two"]
    assert log == ["a"]


def test_names_are_exported():
    assert {"ResourceManager", "ManagedResource", "ResourceType"} <= set(crawlo_otel_leaks.__all__)

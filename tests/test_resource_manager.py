from __future__ import annotations

import asyncio
import time

import pytest

import crawlo_otel_leaks
from crawlo_otel_leaks import ResourceManager, ResourceType, cleanup_all_managers, get_resource_manager, manager

KEYS = {"success", "errors", "duration", "total_resources", "cleaned_resources"}


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


def test_what_two_depend_on_waits_for_both(managed, noting, log):
    managed.register("pool", noting, name="pool", priority=10)
    managed.register("one", noting, priority=1, depends_on={"pool"})
    managed.register("two", noting, depends_on={"pool"})
    clean(managed)
    assert log == ["one", "two", "pool"]


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

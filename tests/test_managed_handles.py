"""What a manager has registered, as handles."""

from __future__ import annotations

import asyncio
import gc
import weakref

from garbage import collect

from crawlo_otel_leaks import ResourceManager, ResourceType, scope, track


class Thing:
    """Something to be cleaned up."""


def fail(_):
    raise OSError("cannot be closed")


def clean(managed):
    return asyncio.run(managed.cleanup_all())


def test_a_registered_resource_is_a_handle_with_the_line_that_registered_it(rig, managed, noting):
    with scope("run"):
        managed.register([1, 2], noting, name="a list")  # which takes no weak reference
    rig.settle()
    assert rig.verdicts == [("custom", "scope_end")]
    leak = rig.recorder.opened_leaks[0]
    assert leak.name == "a list"
    assert leak.where.text.startswith("managed.register([1, 2]")


def test_a_resource_that_is_cleaned_up_is_no_leak(rig, managed, noting):
    with scope("run"):
        managed.register([1, 2], noting)
        clean(managed)
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []


def test_a_session_is_a_session_and_its_name_tells_no_address(rig, managed, noting):
    managed.register(Thing(), noting, ResourceType.SESSION)
    (handle,) = rig.held
    assert (handle.kind, handle.name) == ("http.session", "Thing")


def test_a_manager_that_is_dropped_with_its_resources_abandons_them(rig, noting):
    ResourceManager("dropped").register(7, noting)
    collect()
    rig.pass_time(1)
    assert rig.verdicts == [("custom", "abandoned")]


def test_what_a_manager_keeps_may_outlive_who_registered_it(rig, managed, noting, tracer):
    async def register():
        with tracer.start_as_current_span("job"):
            managed.register(Thing(), noting)

    asyncio.run(register())
    rig.settle()
    assert rig.verdicts == []


def test_what_could_not_be_cleaned_up_is_a_leak_of_who_registered_it(rig, managed, tracer):
    async def register():
        with tracer.start_as_current_span("job"):
            managed.register(Thing(), fail)

    asyncio.run(register())
    clean(managed)
    rig.settle()
    assert rig.verdicts == [("custom", "owner_finished")]


def test_what_its_library_tracks_already_is_not_counted_twice(rig, managed, noting):
    managed.register(track(Thing()), noting)
    assert len(rig.held) == 1
    assert rig.held[0].shared


def test_what_a_cleanup_only_claims_to_have_released_is_a_leak_of_who_acquired_it(rig, managed, noting, tracer):
    kept = []

    async def register():
        with tracer.start_as_current_span("job"):
            kept.append(track(Thing()))
            managed.register(kept[0], noting)

    asyncio.run(register())
    rig.settle()
    assert rig.verdicts == []
    assert clean(managed)["success"] == 1  # and has not released it
    rig.settle()
    assert rig.verdicts == [("custom", "owner_finished")]


def test_what_is_cleared_is_forgotten(rig, managed, noting):
    managed.register(Thing(), noting)
    managed.clear()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert managed.get_stats()["total_registered"] == 0


def test_nothing_is_kept_alive_once_it_is_cleaned_up(rig, managed, noting, log):
    thing = Thing()
    ref = weakref.ref(thing)
    managed.register(thing, lambda resource: log.append(id(resource)))
    del thing
    gc.disable()
    try:
        clean(managed)
        rig.runtime.tick()
        assert ref() is None
    finally:
        gc.enable()

"""What the accelerator notes of tasks that are made, as Python does."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect

import pytest
from conftest import needs_accelerator
from swift_steps import left_behind, trackers

needs_accelerator()


def maker(tracker, **others):
    """A loop whose tasks are noted, and the notes."""
    notes = tracker.stock.by_identity()
    parts = {"wrapped": asyncio.BaseEventLoop.create_task, "live": [True], "notes": notes, "reach": 3, "place": "a:b"}
    parts.update(create_task=asyncio.create_task.__code__, root=asyncio.Handle._run.__code__)
    parts.update({"failed": lambda error: tracker.fail("create_task", error), **others})
    stand = tracker.accelerator.maker(**parts)
    return type("Loop", (asyncio.SelectorEventLoop,), {"create_task": stand})(), stand, parts["notes"]


def run(loop, main):
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


async def nothing():
    pass


def test_it_notes_tasks_as_python_does():
    async def make():
        return asyncio.create_task(nothing(), name="n"), asyncio.get_running_loop().create_task(nothing())

    async def main():
        made = await make()
        await asyncio.gather(*made)
        return *made, asyncio.current_task()

    loop, _, notes = maker(tracker := trackers()[1])
    task, by_method, made_by = run(loop, main)
    reference, at, _, by, scope, thread, code, instruction, above = notes[id(task)]
    assert (reference(), at, by(), scope, thread.is_main) == (task, 100.0, made_by, None, True)
    assert (task.get_name(), code.co_name, instruction > 0) == ("n", "make", True)
    assert [step.co_name for step in above[::2]] == ["main"]
    assert (notes[id(by_method)][6], tracker.errors) == (code, 0)


def test_a_maker_shows_itself_as_the_method_that_it_stands_for():
    original = asyncio.BaseEventLoop.create_task
    loop, stand, _ = maker(trackers()[1])
    assert (stand, repr(stand), hash(stand)) == (original, repr(original), hash(original))
    assert (stand.__name__, inspect.signature(stand)) == ("create_task", inspect.signature(original))
    assert (type(loop).create_task is stand, inspect.isfunction(stand), copy.copy(stand) is stand) == (True, True, True)
    assert loop.create_task.__self__ is loop
    loop.close()
    with pytest.raises(TypeError):
        stand()


def test_a_maker_that_is_off_or_fails_leaves_the_task_alone():
    async def main():
        return await asyncio.create_task(nothing())

    loop, _, notes = maker(tracker := trackers()[1], live=[])
    assert (run(loop, main), len(notes)) == (None, 0)

    loop, _, _ = maker(tracker)
    tracker.clock = lambda: 1 / 0
    assert (run(loop, main), tracker.errors > 0) == (None, True)


def test_what_takes_no_weak_reference_is_returned_all_the_same_and_told():
    failures = []
    _, stand, notes = maker(trackers()[1], wrapped=lambda loop: 1, failed=failures.append)
    assert (stand(object()), len(notes)) == (1, 0)
    assert [type(failure) for failure in failures] == [TypeError]


def noted_tasks(tracker):
    """Return what makes a task on a loop that notes it, and tells its identity, and the notes."""

    def turn():
        task = loop.create_task(nothing())
        loop.run_until_complete(task)
        return id(task)

    loop, _, notes = maker(tracker)
    return turn, notes


def test_the_note_of_a_task_takes_the_place_of_the_one_before():
    turn, notes = noted_tasks(trackers()[1])
    assert {turn() for _ in range(100)} == set(notes)
    assert all(note[0]() is None for note in notes.values())
    assert not any(gc.is_tracked(note) for note in notes.values())


def test_a_note_that_somebody_has_taken_is_not_changed():
    turn, notes = noted_tasks(tracker := trackers()[1])
    turn()
    taken = list(notes.values())
    tracker.clock.now += 1
    for _ in range(100):
        turn()
    assert [note[1] for note in taken] == [100.0] * len(taken)
    assert 101.0 in {note[1] for note in notes.values()}


def test_notes_leave_nothing_behind():
    turn, notes = noted_tasks(trackers()[1])
    assert left_behind(turn, notes.clear) < 100


def test_who_had_a_task_made_is_asked_of_asyncio_where_its_tasks_cannot_be_looked_up(monkeypatch):
    async def main():
        return asyncio.create_task(nothing()), asyncio.current_task()

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.tasks, "_current_tasks", None)
        loop, _, notes = maker(trackers()[1])
    task, made_by = run(loop, main)
    assert notes[id(task)][3]() is made_by


@pytest.mark.parametrize(
    ("name", "value"),
    [("swift", None), ("live", ()), ("notes", []), ("root", None), ("reach", 99), ("reach", -1), ("place", 1)],
)
def test_a_maker_takes_only_what_it_can_work_with(name, value):
    with pytest.raises((TypeError, ValueError)):
        maker(trackers()[1], **{name: value})

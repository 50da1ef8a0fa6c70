from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import weakref

import pytest
import uvloop
from task_steps import LOOPS, cancelled, leave, pending, run, stuck

from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor

pytest_plugins = ["watched_tasks"]

BASE = asyncio.BaseEventLoop
CREATE = vars(BASE)["create_task"]
COMPLAIN = vars(BASE)["call_exception_handler"]
with_each_loop = pytest.mark.parametrize("loop", list(LOOPS))


def test_instrument_and_uninstrument_restore_all(rig):
    for _ in range(2):
        TasksInstrumentor().instrument()
        assert vars(BASE)["create_task"] is not CREATE
        assert "create_task" in vars(uvloop.Loop)
        TasksInstrumentor().uninstrument()
    assert vars(BASE)["create_task"] is CREATE
    assert vars(BASE)["call_exception_handler"] is COMPLAIN
    assert not {"create_task", "call_exception_handler"} & set(vars(uvloop.Loop))
    assert rig.runtime.tracker.chores == rig.runtime.tracker.resets == rig.runtime.finders == []


def test_who_wrapped_ours_is_passed_through_after_uninstrument(rig, monkeypatch):
    TasksInstrumentor().instrument()
    ours = BASE.create_task

    def theirs(loop, coro, **kwargs):
        return ours(loop, coro, **kwargs)

    monkeypatch.setattr(BASE, "create_task", theirs)
    TasksInstrumentor().uninstrument()
    kept = []
    asyncio.run(leave(kept))
    rig.runtime.tick()
    assert len(kept) == 1
    assert rig.held == []
    monkeypatch.undo()
    BASE.create_task = CREATE


@with_each_loop
def test_tasks_are_the_very_same_and_all_tasks_too(tasks_watched, loop):
    async def main():
        made = []
        asyncio.get_running_loop().set_task_factory(factory(made))
        task = asyncio.create_task(stuck(), name="mine")
        assert task is made[0]
        assert type(task) is asyncio.Task
        assert task.get_name() == "mine"
        assert asyncio.all_tasks() == {task, asyncio.current_task()}
        assert asyncio.get_running_loop().get_task_factory() is not None
        await cancelled([task])

    def factory(made):
        def make(loop, coro, **kwargs):
            made.append(asyncio.Task(coro, loop=loop, **kwargs))
            return made[-1]

        return make

    run(main(), loop)


@with_each_loop
def test_a_task_dies_as_soon_as_it_is_dropped(tasks_watched, loop):
    async def main():
        task = asyncio.create_task(asyncio.sleep(0))
        tasks_watched.runtime.tick()
        await task
        ref = weakref.ref(task)
        await asyncio.sleep(0)
        gc.disable()
        del task
        try:
            assert ref() is None
        finally:
            gc.enable()

    run(main(), loop)


@with_each_loop
def test_what_create_task_refuses_it_refuses_as_before(tasks_watched, loop):
    async def main():
        with pytest.raises(TypeError, match="a coroutine was expected"):
            asyncio.get_running_loop().create_task(7)
        coro = stuck()
        with pytest.raises(TypeError, match="unexpected"):
            asyncio.get_running_loop().create_task(coro, unheard_of=1)
        coro.close()

    run(main(), loop)
    closed = LOOPS[loop][0]()
    closed.close()
    coro = stuck()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        closed.create_task(coro)
    coro.close()
    assert pending(tasks_watched) == []


def test_a_tasks_failure_is_its_own(tasks_watched):
    async def fail():
        raise LookupError("mine")

    async def main():
        with pytest.raises(LookupError, match="mine"):
            await asyncio.create_task(fail())

    run(main())


def test_context_variables_are_those_of_the_maker(tasks_watched):
    variable = contextvars.ContextVar("variable", default="none")

    async def look():
        seen = variable.get()
        variable.set("inside")
        return seen

    async def main():
        variable.set("outside")
        assert await asyncio.create_task(look()) == "outside"
        assert variable.get() == "outside"
        if sys.version_info >= (3, 11):
            fresh = contextvars.Context()
            assert await asyncio.create_task(look(), context=fresh) == "none"
            assert fresh[variable] == "inside"

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_run_at_once_and_are_held_only_if_they_wait(tasks_watched):
    async def at_once():
        return asyncio.current_task()

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        done = asyncio.create_task(at_once())
        assert done.done()
        assert done.result() is done
        waiting = asyncio.create_task(stuck())
        assert [handle.referent() for handle in pending(tasks_watched)] == [waiting]
        await cancelled([waiting])

    run(main())
    assert pending(tasks_watched) == []


@pytest.mark.parametrize("loop", ["asyncio, debug", "uvloop, debug"])
def test_debug_mode_shows_no_frame_of_ours(tasks_watched, loop):
    async def main():
        task = asyncio.create_task(stuck())
        origins = [frame.filename for frame in task._source_traceback]
        assert not any("crawlo_otel_leaks" in origin for origin in origins)
        assert __file__ in origins
        await cancelled([task])

    run(main(), loop)


def test_notes_of_tasks_that_have_ended_do_not_pile_up(tasks_watched):
    notes = TasksInstrumentor()._tasks.notes

    async def main():
        for _ in range(10_000):
            await asyncio.create_task(asyncio.sleep(0))
        assert len(notes) < 200

    run(main())
    tasks_watched.runtime.tick()
    assert not notes


def test_tasks_at_one_place_in_memory_are_all_released(tasks_watched):
    async def main():
        for _ in range(50):
            task = asyncio.create_task(stuck())
            await asyncio.sleep(0)
            assert len(pending(tasks_watched)) == 1
            await cancelled([task])
            del task

    run(main())
    tasks_watched.runtime.tick()
    assert len(tasks_watched.recorder.released_handles) == 50


def test_a_forked_child_forgets_its_parents_tasks(tasks_watched):
    async def main():
        kept = []
        await leave(kept)
        assert len(pending(tasks_watched)) == 1
        await leave(kept)
        tasks_watched.runtime.tracker.clear()  # as in a child
        assert pending(tasks_watched) == []
        await cancelled(kept)

    run(main())
    tasks_watched.settle()
    assert tasks_watched.verdicts == []


LATE = """
import asyncio
from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor
TasksInstrumentor().instrument()
import uvloop

async def main():
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    running = runtime.current()
    running.tick()
    print(sorted(handle.name for handle in running.tracker.held()))
    task.cancel()

uvloop.new_event_loop().run_until_complete(main())
"""


def test_uvloop_is_watched_when_it_is_imported_later():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=True)
    assert "'sleep'" in done.stdout

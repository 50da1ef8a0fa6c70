from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest
from garbage import collect
from task_steps import LEAK, LOOPS, cancelled, in_a_request, leave, pending, run, stuck, tracer

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.model import Reason

pytest_plugins = ["watched_tasks"]

with_each_loop = pytest.mark.parametrize("loop", list(LOOPS))


async def short():
    await asyncio.sleep(0)


async def create():
    await asyncio.create_task(short())


async def of_the_loop():
    await asyncio.get_running_loop().create_task(short())


async def ensure():
    await asyncio.ensure_future(short())


async def gather():
    await asyncio.gather(*(short() for _ in range(3)))


async def wait_for():
    await asyncio.wait_for(short(), 10)


async def shield():
    await asyncio.shield(short())


async def as_completed():
    for one in asyncio.as_completed([short(), short()]):
        await one


async def group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(short())


async def fire_and_forget():
    task = asyncio.create_task(short())
    task.add_done_callback({task}.discard)


async def cancel():
    task = asyncio.create_task(stuck())
    await asyncio.sleep(0)
    task.cancel()


WAYS = [create, of_the_loop, ensure, gather, wait_for, shield, as_completed, fire_and_forget, cancel]
if sys.version_info >= (3, 11):
    WAYS.append(group)


@with_each_loop
@pytest.mark.parametrize("way", WAYS)
def test_what_ends_is_never_told(tasks_watched, way, loop):
    async def main():
        for _ in range(100):
            await in_a_request(way())
            tasks_watched.runtime.tick()
        await asyncio.sleep(0)
        tasks_watched.settle()
        assert pending(tasks_watched) == []

    run(main(), loop)
    tasks_watched.settle()
    assert tasks_watched.verdicts == []


@with_each_loop
def test_tasks_that_outlive_their_requests_are_leaks_at_their_line(tasks_watched, loop):
    async def main():
        kept = []
        for _ in range(3):
            await in_a_request(leave(kept))
        tasks_watched.settle()
        assert tasks_watched.verdicts == [LEAK] * 3
        await cancelled(kept)
        tasks_watched.runtime.tick()

    run(main(), loop)
    leak = tasks_watched.recorder.opened_leaks[0]
    assert leak.where.function.endswith("leave")
    assert leak.where.text == "kept.append(asyncio.create_task(work()))"
    assert leak.owner.span is not None
    assert leak.name == "stuck"
    assert len(tasks_watched.recorder.resolved_leaks) == 3
    assert pending(tasks_watched) == []


def test_the_leak_span_is_in_the_trace_of_the_request(tasks_watched, telemetry):
    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept))
        tasks_watched.settle()
        await cancelled(kept)

    run(main())
    requests = {span.context.span_id for span in telemetry.spans("request")}
    assert {span.parent.span_id for span in telemetry.spans("leak task")} == requests


def test_one_of_its_line_is_shared_by_design(tasks_watched):
    async def main():
        kept = []
        await in_a_request(leave(kept))
        tasks_watched.settle()
        assert [handle.name for handle in pending(tasks_watched)] == ["stuck"]
        await cancelled(kept)
        await in_a_request(leave(kept))  # begun anew, after the first has ended
        tasks_watched.settle()

    run(main())
    assert tasks_watched.verdicts == []


def test_those_that_end_within_the_grace_are_none(tasks_watched):
    async def main():
        for _ in range(5):
            kept = []
            for _ in range(3):
                await in_a_request(leave(kept))
            tasks_watched.pass_time(9, steps=9)
            await cancelled(kept)
        tasks_watched.settle()

    run(main())
    assert tasks_watched.verdicts == []


def test_one_that_somebody_awaits_is_in_use(tasks_watched):
    async def wait(kept):
        await asyncio.gather(*kept)

    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept))
        waiting = [asyncio.create_task(wait(kept))]
        await asyncio.sleep(0)
        tasks_watched.settle()
        assert tasks_watched.verdicts == []
        waiting[0].cancel()  # which cancels what it waits for, too
        await asyncio.wait([*waiting, *kept])
        assert pending(tasks_watched) == []

    run(main())


def test_a_gather_that_nobody_awaits_keeps_nobody_in_use(tasks_watched):
    kept = []

    async def forget():
        kept.append(asyncio.gather(stuck(), stuck()))

    async def main():
        await in_a_request(forget())
        await asyncio.sleep(0)
        tasks_watched.settle()
        assert tasks_watched.verdicts == [LEAK] * 2
        kept[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await kept[0]

    run(main())


@pytest.mark.parametrize("ticks", [0, 3])
@with_each_loop
def test_one_that_is_collected_while_pending_is_abandoned(tasks_watched, loop, ticks):
    async def careless():
        asyncio.create_task(stuck(), name="forgotten")  # noqa: RUF006  (the point)
        await asyncio.sleep(0)

    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        await careless()
        for _ in range(ticks):
            tasks_watched.pass_time(1)
        collect()
        tasks_watched.pass_time(1)
        assert told == ["Task was destroyed but it is pending!"]

    collect()
    run(main(), loop)
    assert tasks_watched.verdicts == [("task", "abandoned")]
    leak = tasks_watched.recorder.opened_leaks[0]
    assert (leak.name, leak.where.function.rpartition(".")[2]) == ("forgotten", "careless")
    assert pending(tasks_watched) == []


@with_each_loop
def test_one_that_is_pending_when_its_loop_closes_is_told(tasks_watched, loop):
    made, debug = LOOPS[loop]
    running = made()
    running.set_debug(debug)
    running.set_exception_handler(lambda *_: None)
    kept = []
    running.run_until_complete(leave(kept))
    tasks_watched.settle()
    assert tasks_watched.verdicts == []
    running.close()
    tasks_watched.settle()
    assert tasks_watched.verdicts == [("task", "loop_closed")]
    assert tasks_watched.recorder.opened_leaks[0].name == "stuck"


def test_what_asyncio_run_cancels_at_its_end_is_none(tasks_watched):
    kept = []
    asyncio.run(leave(kept, times=5))
    tasks_watched.settle()
    assert tasks_watched.verdicts == []
    assert pending(tasks_watched) == []


def test_nested_tasks_that_a_scope_leaves_are_all_found(tasks_watched):
    async def outer(kept):
        kept.append(asyncio.create_task(stuck(), name="inner"))
        await stuck()

    async def main():
        kept = []
        async with scope("run"):
            kept.append(asyncio.create_task(outer(kept), name="outer"))
            kept.append(asyncio.create_task(asyncio.sleep(3600)))
            await asyncio.create_task(asyncio.sleep(0))
        tasks_watched.settle()
        await cancelled(kept)

    run(main())
    told = {(leak.name, leak.reason) for leak in tasks_watched.recorder.opened_leaks}
    assert told == {(name, Reason.SCOPE_END) for name in ("outer", "inner", "sleep")}


def test_a_scope_that_waits_for_its_tasks_leaves_none(tasks_watched):
    async def main():
        async with scope("run"):
            kept = []
            await leave(kept, times=3)
            await cancelled(kept)
        tasks_watched.settle()

    run(main())
    assert tasks_watched.verdicts == []


def test_what_is_pending_at_exit_is_told_unless_it_is_adopted(tasks_watched):
    running = asyncio.new_event_loop()
    kept = [running.create_task(stuck()) for _ in range(2)]
    running.run_until_complete(asyncio.sleep(0))
    adopt(kept[0])
    kept[1].set_name("mine")
    tasks_watched.runtime.finish(exiting=True)
    assert [(leak.reason, leak.name) for leak in tasks_watched.recorder.opened_leaks] == [(Reason.PROCESS_EXIT, "mine")]
    running.run_until_complete(cancelled(kept))
    running.close()


def test_adopted_ones_may_outlive_anybody(tasks_watched):
    async def main():
        kept = []
        for _ in range(3):
            await in_a_request(leave(kept))
        for task in kept:
            adopt(task)
        tasks_watched.settle()
        await cancelled(kept)

    run(main())
    assert tasks_watched.verdicts == []


def test_one_made_under_a_span_that_goes_on_is_none(tasks_watched):
    async def main():
        kept = []
        with tracer.start_as_current_span("long"):
            await leave(kept, times=3)
            tasks_watched.settle()
            assert len(pending(tasks_watched)) == 3
            await cancelled(kept)

    run(main())
    assert tasks_watched.verdicts == []

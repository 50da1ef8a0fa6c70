from __future__ import annotations

import asyncio
import os

import pytest
from conftest import GRACE
from task_steps import LEAK, cancelled, in_a_request, leave, pending, run, stuck

from crawlo_otel_leaks.instrumentation._runners import CROWD, maker
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.settings import DEFAULT_THRESHOLDS, Settings
from crawlo_otel_leaks.sites import package

pytest_plugins = ["watched_tasks"]


async def steps():
    """Go on whenever the loop runs."""
    for _ in range(100_000):
        await asyncio.sleep(0.001)


async def pass_time(rig, seconds):
    """Let the loop go on between any two ticks."""
    for _ in range(seconds):
        await asyncio.sleep(0.005)
        rig.pass_time(1)


@pytest.mark.parametrize(("work", "expected"), [(steps, []), (stuck, [LEAK] * 2)])
def test_what_goes_on_is_work_in_progress_and_what_is_stuck_is_none(tasks_watched, work, expected):
    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept, work))
        await pass_time(tasks_watched, 40)
        assert tasks_watched.verdicts == expected
        await cancelled(kept)

    run(main())


def test_one_that_awaits_another_goes_on_with_it(tasks_watched):
    async def through():
        await asyncio.create_task(steps())

    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept, through))
        await pass_time(tasks_watched, 40)
        await cancelled(kept)

    run(main())
    assert tasks_watched.verdicts == []


def test_a_crowd_that_outlives_its_makers_is_no_work_in_progress(tasks_watched):
    async def main():
        kept = []
        for _ in range(CROWD):
            await in_a_request(leave(kept, steps))
        await pass_time(tasks_watched, 40)
        await cancelled(kept)

    run(main())
    assert tasks_watched.verdicts == [LEAK] * CROWD


def test_a_line_whose_tasks_end_late_is_given_the_time_they_take(tasks_watched):
    async def main():
        kept = []
        await in_a_request(leave(kept))
        tasks_watched.pass_time(100, steps=20)
        await cancelled(kept)  # it took 100 s, and ended
        tasks_watched.runtime.tick()
        kept.clear()
        for _ in range(3):
            await in_a_request(leave(kept))
        tasks_watched.pass_time(150, steps=30)
        assert tasks_watched.verdicts == []
        tasks_watched.pass_time(250, steps=50)
        assert tasks_watched.verdicts == [LEAK] * 3
        await cancelled(kept)

    run(main())


class TestThreshold:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=1.0, thresholds={**DEFAULT_THRESHOLDS, "task": 60.0})

    def test_a_threshold_of_ones_own_tells_idle_from_slow(self, tasks_watched):
        async def main():
            kept = []
            await leave(kept, steps)
            await leave(kept, stuck)
            await pass_time(tasks_watched, 150)
            await cancelled(kept)

        run(main())
        told = {(leak.name, leak.reason) for leak in tasks_watched.recorder.opened_leaks}
        assert told == {("steps", Reason.SLOW), ("stuck", Reason.HELD_TOO_LONG)}


SOURCE = """
import asyncio
async def serve(work):
    return asyncio.create_task(work())
"""


def library(name):
    """A function as if it were of an installed library."""
    names = {"__name__": name}
    exec(compile(SOURCE, f"/lib/site-packages/{name}/core.py", "exec"), names)  # a file name is the point
    return names["serve"]


@pytest.mark.parametrize(("name", "held", "ignored"), [("uvicorn", 0, 2), ("aiohttp", 0, 2), ("somelib", 2, 0)])
def test_a_servers_tasks_are_ignored_and_a_librarys_have_no_owner(tasks_watched, name, held, ignored):
    serve = library(name)

    async def ask(kept):
        kept.append(await serve(stuck))

    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(ask(kept))
        assert len(pending(tasks_watched)) == held
        assert tasks_watched.runtime.tracker.ignored == ignored + 1  # the program's own, which the loop made
        tasks_watched.settle()
        await cancelled(kept)

    run(main())
    assert tasks_watched.verdicts == []


def test_a_callbacks_tasks_have_no_owner(tasks_watched):
    async def main():
        kept = []

        def later():
            kept.append(asyncio.get_running_loop().create_task(stuck()))

        async def ask():
            for _ in range(2):
                asyncio.get_running_loop().call_soon(later)

        await in_a_request(ask())
        await asyncio.sleep(0)
        tasks_watched.settle()
        assert len(pending(tasks_watched)) == 2
        await cancelled(kept)

    run(main())
    assert tasks_watched.verdicts == []


def test_connection_handlers_of_asyncios_streams_are_the_loops(tasks_watched):
    served = []

    async def handle(reader, writer):
        served.append(asyncio.current_task())
        await reader.read()
        writer.close()

    async def main():
        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(1000):
            if served:
                break
            await asyncio.sleep(0.01)
        assert pending(tasks_watched) == []
        assert tasks_watched.runtime.tracker.ignored == 2  # beside the program's own
        writer.close()
        listening.close()
        await asyncio.wait(served)

    run(main())


def test_whose_file_it_is():
    assert package(asyncio.__file__) == ""
    assert package("<frozen runpy>") == ""
    assert package("/x/lib/python3.11/site-packages/uvicorn/main.py") == "uvicorn"
    assert package("/x/lib/python3.11/site-packages/single.py") == "single"
    assert package(__file__) is None
    assert package("<string>") is None
    assert package(maker.__code__.co_filename) == "crawlo_otel_leaks"
    contrib = os.path.join("site-packages", "opentelemetry", "instrumentation", "asyncio", "__init__.py")  # noqa: PTH118
    assert maker([asyncio.tasks.__file__, contrib, __file__], (asyncio.tasks.__file__,)) is None
    assert maker([], ()) == ""

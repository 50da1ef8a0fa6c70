"""Tasks that a thread has made in a loop that runs in another."""

from __future__ import annotations

import asyncio
import threading

import pytest
from garbage import collect
from task_steps import LOOPS, in_a_request, pending, stuck, tracer

from crawlo_otel_leaks import scope
from crawlo_otel_leaks.model import Reason

pytest_plugins = ["watched_tasks"]


class Aside:
    """A loop in a thread of its own."""

    def __init__(self, loop):
        make, debug = LOOPS[loop]
        self.loop = make()
        self.loop.set_debug(debug)
        self.loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def submit(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop)  # here

    def stand_still(self):
        """Return once all that was submitted has begun."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result()

    def stop(self):
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


@pytest.fixture(params=list(LOOPS))
def aside(request):
    aside = Aside(request.param)
    yield aside
    aside.stop()


async def answer():
    return 42


def where(leak):
    return leak.where.function.rpartition(".")[2], leak.where.text


def test_one_that_is_pending_when_its_loop_closes_is_told_at_the_line_that_submitted_it(tasks_watched, aside):
    with tracer.start_as_current_span("request") as span:
        _kept = aside.submit(stuck())
    aside.stand_still()
    tasks_watched.settle()
    assert [handle.name for handle in pending(tasks_watched)] == ["stuck"]
    assert tasks_watched.verdicts == []
    aside.stop()
    tasks_watched.settle()
    assert tasks_watched.verdicts == [("task", "loop_closed")]
    (leak,) = tasks_watched.recorder.opened_leaks
    assert where(leak) == ("submit", "return asyncio.run_coroutine_threadsafe(work, self.loop)  # here")
    assert leak.owner.span.span_id == span.get_span_context().span_id


def test_one_that_is_collected_while_pending_is_told_at_that_line(tasks_watched, aside):
    async def forgotten():
        await asyncio.get_running_loop().create_future()

    future = aside.submit(forgotten())
    aside.stand_still()
    del future
    collect()
    tasks_watched.settle()
    assert tasks_watched.verdicts == [("task", "abandoned")]
    assert where(tasks_watched.recorder.opened_leaks[0])[0] == "submit"


def test_one_that_outlives_its_scope_is_told(tasks_watched, aside):
    with scope("run"):
        future = aside.submit(stuck())
        aside.stand_still()
    tasks_watched.settle()
    assert [(leak.name, leak.reason) for leak in tasks_watched.recorder.opened_leaks] == [("stuck", Reason.SCOPE_END)]
    future.cancel()


def test_what_ends_is_never_told_and_nothing_of_it_is_kept(tasks_watched, aside):
    (submitted,) = {find.__self__.submitted for find in tasks_watched.runtime.finders}
    for _ in range(100):
        assert aside.submit(answer()).result() == 42
        tasks_watched.runtime.tick()
    aside.stand_still()
    collect()
    tasks_watched.settle()
    assert (tasks_watched.verdicts, pending(tasks_watched), submitted.frames) == ([], [], {})


def test_background_work_that_a_request_submits_is_not_accused_of_outliving_it(tasks_watched, aside):
    kept = []

    async def request():
        kept.append(aside.submit(stuck()))

    for _ in range(6):
        asyncio.run(in_a_request(request()))
    aside.stand_still()
    tasks_watched.settle()
    assert tasks_watched.verdicts == []
    assert len(pending(tasks_watched)) == 6


def test_a_task_at_the_place_of_one_that_is_gone_is_not_taken_for_it(tasks_watched, aside):
    (submitted,) = {find.__self__.submitted for find in tasks_watched.runtime.finders}

    async def main():
        work = stuck()
        submitted.frames[id(work)] = lambda: None, {"code": answer.__code__}
        task = asyncio.create_task(work)
        tasks_watched.runtime.tick()
        (handle,) = pending(tasks_watched)
        task.cancel()
        return handle.site.frames[0][0]

    assert asyncio.run(main()) is main.__code__
    assert submitted.frames == {}


def test_what_asyncio_refuses_is_refused_as_before(tasks_watched, aside):
    with pytest.raises(TypeError, match="coroutine object is required"):
        aside.submit(42)
    assert tasks_watched.runtime.tracker.errors == 0


def test_a_failure_of_ours_is_told_and_the_coroutine_runs(tasks_watched, aside, monkeypatch):
    (submitted,) = {find.__self__.submitted for find in tasks_watched.runtime.finders}
    monkeypatch.setattr(submitted, "frames", None)
    assert aside.submit(answer()).result() == 42
    assert tasks_watched.runtime.tracker.errors == 1
    tasks_watched.runtime.tracker.errors = 0
    monkeypatch.undo()

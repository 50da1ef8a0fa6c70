from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import weakref

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span

from crawlo_otel_leaks import owner
from crawlo_otel_leaks.model import Handle, NamedHandle, Scope
from crawlo_otel_leaks.owner import current_scope

SAMPLED_NOT = trace.SpanContext(7, 9, is_remote=False, trace_flags=trace.TraceFlags(0))


def take(rig, kind="file"):
    return rig.runtime.tracker.acquire(NamedHandle(kind, "thing"), sys._getframe())


def over(handle):
    return owner.finished(handle, owner.current_frames())


@pytest.fixture(autouse=True)
def _attached(rig):
    rig.runtime.tick()  # attaches the processor that notes who starts a span


def test_without_span_and_task_nobody_finishes(rig):
    assert not over(take(rig))


def test_a_span_that_ends_finishes_the_work_of_who_started_it(rig, tracer):
    with tracer.start_as_current_span("job"):
        handle = take(rig)
        assert not over(handle)
    assert over(handle)
    owner.settle(handle)
    assert isinstance(handle.span, owner.Ended)
    assert over(handle)


def test_a_span_that_no_sampler_kept_ends_when_nobody_runs_under_it(rig):
    with trace.use_span(trace.NonRecordingSpan(SAMPLED_NOT)):
        handle = take(rig)
        assert not over(handle)
    assert over(handle)
    assert owner.describe(handle).span == SAMPLED_NOT


def test_an_invalid_span_is_none(rig):
    with trace.use_span(trace.INVALID_SPAN):
        assert take(rig).span is None


def test_a_task_that_ends_without_span_finishes(rig):
    async def main():
        async def job():
            return take(rig)

        task = asyncio.create_task(job(), name="fetcher")
        handle = await task
        assert handle.task_name == "fetcher"
        return handle, over(handle)

    handle, then = asyncio.run(main())
    assert then
    assert over(handle)


def test_a_child_task_that_fetches_for_the_span_above_does_not_finish_it(rig, tracer):
    async def main():
        with tracer.start_as_current_span("parent"):
            (handle,) = await asyncio.gather(asyncio.to_thread(take, rig))
            (mine,) = await asyncio.gather(fetch())
            assert not over(handle)
            assert not over(mine)
        return mine

    async def fetch():
        return take(rig)

    assert over(asyncio.run(main()))


def test_a_background_task_outlives_the_span_it_inherited(rig, tracer):
    async def main():
        release = asyncio.Event()

        async def background():
            handle = take(rig)
            handles.append(handle)
            await release.wait()

        handles = []
        with tracer.start_as_current_span("request"):
            task = asyncio.create_task(background())
            await asyncio.sleep(0)
        assert not over(handles[0])
        release.set()
        await task
        assert over(handles[0])

    asyncio.run(main())


def test_a_job_loop_finishes_a_job_with_its_span_though_the_task_goes_on(rig, tracer):
    async def main():
        with tracer.start_as_current_span("job 1"):
            handle = take(rig)
        with tracer.start_as_current_span("job 2"):
            assert over(handle)

    asyncio.run(main())


def test_a_pool_thread_finishes_with_the_span_it_was_lent(rig, tracer):
    async def main():
        with tracer.start_as_current_span("request"):
            handle = await asyncio.to_thread(take, rig)
            assert not over(handle)
        assert over(handle)

    asyncio.run(main())


def test_a_background_thread_still_in_the_acquiring_function_does_not_finish(rig, tracer):
    import contextvars  # noqa: PLC0415

    taken, stop, handles = threading.Event(), threading.Event(), []

    def work():
        handles.append(take(rig))
        taken.set()
        stop.wait(10)

    with tracer.start_as_current_span("request"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="worker")
        thread.start()
        assert taken.wait(10)
    assert not over(handles[0])
    assert owner.thread_alive(handles[0].thread)
    stop.set()
    thread.join()
    assert over(handles[0])
    assert not owner.thread_alive(handles[0].thread)
    assert owner.describe(handles[0]).thread == "worker"


class Thing:
    """What a handle may stand for."""


class Known(Handle):
    __slots__ = ("thing",)

    def referent(self):
        return self.thing


def known(rig, thing, frame):
    handle = Known("file")
    handle.thing = thing
    return rig.runtime.tracker.acquire(handle, frame)


def test_the_acquiring_function_is_seen_on_a_thread(rig):
    handle = rig.runtime.tracker.acquire(Handle("file"), sys._getframe())
    assert owner.acquiring_frame(handle, owner.current_frames()) is sys._getframe()
    assert owner.acquiring_frame(take(rig), owner.current_frames()) is None


def test_the_acquiring_function_is_seen_in_a_suspended_task(rig):
    async def main():
        handles = []

        async def hold():
            handles.append(rig.runtime.tracker.acquire(Handle("file"), sys._getframe()))
            await asyncio.sleep(3600)

        async def outer():
            await hold()

        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        frame = owner.acquiring_frame(handles[0], {})
        task.cancel()
        return frame, handles[0]

    frame, handle = asyncio.run(main())
    assert frame.f_code.co_name == "hold"
    assert owner.acquiring_frame(handle, {}) is None


def test_a_job_loop_in_one_function_leaks_all_but_the_newest(rig, tracer):
    for _ in range(3):
        with tracer.start_as_current_span("job"):
            rig.runtime.tracker.acquire(Handle("file"), sys._getframe())
    rig.settle()
    assert rig.verdicts == [("file", "owner_finished")] * 2


def test_what_a_main_function_takes_in_a_first_span_and_uses_afterwards_is_at_hand(rig, tracer):
    with tracer.start_as_current_span("set up"):
        rig.runtime.tracker.acquire(Handle("file"), sys._getframe())
    rig.settle()
    assert rig.verdicts == []


def test_what_another_thread_takes_at_the_same_line_replaces_nothing(rig):
    handles = [take(rig) for _ in range(2)]
    first, second = handles
    assert owner.replaced(first)
    assert not owner.replaced(second)
    thread = threading.Thread(target=lambda: handles.append(take(rig)))
    thread.start()
    thread.join()
    second.site.latest = handles[2]
    handles[2].site = second.site
    assert not owner.replaced(second)


def test_a_session_used_after_its_owner_or_in_another_trace_is_shared(rig, tracer):
    tracker = rig.runtime.tracker
    with tracer.start_as_current_span("first"):
        handle = take(rig)
        with tracer.start_as_current_span("inner"):
            tracker.use(handle)
        assert not handle.shared
    tracker.use(handle)
    assert handle.shared


def test_a_session_used_by_a_task_of_another_trace_is_shared_and_of_the_same_is_not(rig, tracer):
    tracker = rig.runtime.tracker

    async def use(handle):
        tracker.use(handle)

    async def main():
        with tracer.start_as_current_span("first"):
            handle = take(rig)
            await asyncio.create_task(use(handle))
            assert not handle.shared
            with tracer.start_as_current_span("other", context=trace.set_span_in_context(trace.INVALID_SPAN)):
                await asyncio.create_task(use(handle))
            assert handle.shared

    asyncio.run(main())


def test_what_another_scope_uses_belongs_to_the_process(rig):
    token = current_scope.set(Scope("first run"))
    handle = take(rig)
    current_scope.reset(token)
    rig.runtime.tracker.use(handle)
    assert handle.process


def test_a_foreign_thread_gets_a_name_and_no_dummy(rig):
    import _thread  # noqa: PLC0415

    handles, done, before = [], _thread.allocate_lock(), threading.active_count()
    done.acquire()

    def work():
        handles.append(take(rig))
        done.release()

    _thread.start_new_thread(work, ())
    assert done.acquire(timeout=10)
    assert handles[0].thread.name.startswith("thread-")
    assert not owner.thread_alive(handles[0].thread)
    assert threading.active_count() == before


SINGLETON = None


def test_what_a_module_names_belongs_to_the_process_and_a_main_scripts_is_shared(rig, monkeypatch):
    thing = Thing()
    module = sys.modules[__name__]
    handle = known(rig, thing, sys._getframe())
    owner.adopt_global(handle)
    assert not handle.process
    monkeypatch.setattr(module, "SINGLETON", thing)
    owner.adopt_global(handle)
    assert handle.process

    script = known(rig, thing, sys._getframe())
    script.site.modules = ("__main__",)
    monkeypatch.setattr(sys.modules["__main__"], "SINGLETON", thing, raising=False)
    owner.adopt_global(script)
    assert script.shared
    assert not script.process


def test_who_else_uses_a_handle_is_told_by_span_and_task(tracer):
    live, other, ended = (tracer.start_span(name) for name in ("live", "other", "ended"))
    ended.end()

    async def main():
        mine, done = asyncio.current_task(), asyncio.ensure_future(asyncio.sleep(0))
        await done
        pending = asyncio.ensure_future(asyncio.sleep(60))
        spans, tasks = (None, live, other, ended), (None, mine, pending, done)
        same = set()
        for span, task, here in itertools.product(spans, tasks, spans):
            handle = Handle("custom")
            handle.span, handle.task = span, task and weakref.ref(task)
            if not owner.used_by_another(handle, {} if here is None else trace.set_span_in_context(here)):
                same.add((span, task, here))
        pending.cancel()
        by_task = {(span, mine, here) for span in (None, live, other) for here in spans}
        by_span = {(span, task, span) for span in (live, other) for task in (None, pending)}
        assert same == by_task | by_span

    asyncio.run(main())


class Odd(trace.NonRecordingSpan):
    def is_recording(self):
        return self._end_time is not None


@pytest.mark.parametrize(
    ("kind", "end"),
    [(ReadableSpan, None), (Span, "_end_time"), (Odd, None), (trace.NonRecordingSpan, None), (object, None)],
)
def test_only_the_sdks_own_way_to_tell_a_spans_end_is_known(kind, end):
    assert owner.end_of(kind) == end

"""The accelerator answers as the Python that it stands for."""

from __future__ import annotations

import asyncio
import copy
import inspect
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest
from garbage import collect
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from swift_steps import left_behind

from crawlo_otel_leaks import semconv, swift
from crawlo_otel_leaks.model import Handle, Scope
from crawlo_otel_leaks.owner import CALLER, current_scope
from crawlo_otel_leaks.runtime import Runtime
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.sites import Sites, resolve
from crawlo_otel_leaks.tracker import Tracker

pytest.importorskip(swift.MODULE, reason="crawlo-otel-leaks-accelerator is not installed: make accelerator")
TRACER = TracerProvider().get_tracer(__name__)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def trackers(**known):
    made = [Tracker(Sites(**known), Clock()) for _ in range(2)]
    assert swift.accelerate(made[1])
    return made


EXACT = not (3, 11) <= sys.version_info < (3, 13)
"""In 3.11 and 3.12 a call that was specialized meanwhile is at another instruction, of the same line."""


def told(handle):
    frames, stack = handle.site.frames, handle.stack
    if not EXACT:
        frames, stack = resolve(frames), None
    names = ("span", "task", "task_name", "thread", "scope", "process", "acquired_at", "released_at")
    return (frames, stack, handle.site.modules, *(getattr(handle, name) for name in names))


def take(tracker):
    return tracker.acquire(Handle(semconv.CUSTOM), sys._getframe())


def deeper(tracker, levels=30):
    return deeper(tracker, levels - 1) if levels else take(tracker)


def in_a_span(tracker):
    with trace.use_span(SPAN):
        return take(tracker)


def in_a_clients_span(tracker):
    inner = TRACER.start_span("call")
    setattr(inner, CALLER, weakref.ref(SPAN))
    with trace.use_span(inner):
        return take(tracker)


def in_a_scope(tracker):
    token = current_scope.set(SCOPE)
    try:
        return take(tracker)
    finally:
        current_scope.reset(token)


def in_a_generator(tracker):
    return next(take(tracker) for _ in "x")


def in_a_callback_from_c(tracker):
    return max([1, 2], key=lambda _: found.append(take(tracker)) or 0) and found.pop() if (found := []) == [] else None


def in_a_class_body(tracker):
    class Body:
        handle = take(tracker)

    return Body.handle


SPAN = TRACER.start_span("work")
SCOPE = Scope("scope")
WAYS = [
    take,
    deeper,
    in_a_span,
    in_a_clients_span,
    in_a_scope,
    in_a_generator,
    in_a_callback_from_c,
    in_a_class_body,
]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_it_tells_the_same_of_every_way_to_acquire(way, full):
    pair = trackers(full=full)
    for _ in range(200):  # the first, those that are not sampled, and those that are
        plain, swiftly = [told(way(tracker)) for tracker in pair]
        assert swiftly == plain
    assert not EXACT or [len(tracker.sites) for tracker in pair] == [1, 1]


def test_it_tells_the_same_of_a_task_and_of_a_thread():
    async def named(tracker):
        await asyncio.sleep(0)
        return take(tracker)

    async def both():
        return [await asyncio.create_task(named(tracker), name="worker") for tracker in pair]

    pair, threaded = trackers(), []
    plain, swiftly = asyncio.run(both())
    assert (plain.task_name, swiftly.task_name) == ("worker", "worker")
    assert told(swiftly)[0] == told(plain)[0]

    for tracker in pair:
        thread = threading.Thread(target=lambda tracker=tracker: threaded.append(take(tracker)), name="mine")
        thread.start()
        thread.join()
    assert [handle.thread.name for handle in threaded] == ["mine", "mine"]
    assert told(threaded[0])[0] == told(threaded[1])[0]


def test_a_span_that_does_not_record_is_known_by_its_identity():
    context = SPAN.get_span_context()
    remote = trace.NonRecordingSpan(context)
    with trace.use_span(remote):
        plain, swiftly = [take(tracker) for tracker in trackers()]
    assert type(swiftly.span) is type(plain.span)
    assert swiftly.span.get_span_context() == context


def test_what_was_located_for_one_is_anothers():
    for tracker in trackers():
        with trace.use_span(SPAN):
            origin = tracker.locate(Handle(semconv.CUSTOM), sys._getframe())
        tracker.clock.now += 1
        handle = Handle(semconv.CUSTOM)
        tracker.enter(handle, origin)
        assert (handle.site, handle.span, handle.stack, handle.task) == (origin.site, SPAN, origin.stack, None)
        assert (handle.acquired_at, list(tracker.held())) == (101.0, [handle])


def test_telemetrys_own_and_what_comes_after_the_end_is_ignored():
    for tracker in trackers():
        with suppress_instrumentation():
            assert take(tracker) is None
        assert tracker.acquire(Handle(semconv.CUSTOM), None) is None
        tracker.closed = True
        assert take(tracker) is None
        assert (tracker.ignored, tracker.count(semconv.CUSTOM)) == (3, 0)


def test_releases_are_counted_or_queued_alike():
    seen = []
    for tracker in trackers():
        handles = [take(tracker) for _ in range(5)]
        tracker.old[semconv.CUSTOM][handles[4]] = tracker.young[semconv.CUSTOM].pop(handles[4])
        for handle in handles[:3]:
            tracker.release(handle)
        tracker.release(handles[2])
        tracker.clock.now += 1
        for handle in handles[3:]:
            tracker.release(handle)
        holds = handles[0].site.holds
        assert all(handle.released_at is not None for handle in handles)
        assert list(tracker.released) == handles[3:]
        seen.append((holds.brief, list(tracker.brief_holds[semconv.CUSTOM]), tracker.count(semconv.CUSTOM)))
    assert seen == [(3, [0.0, 0.0, 0.0], 0)] * 2


def test_a_hold_is_brief_by_the_trackers_own_measure():
    for tracker in trackers():
        tracker.release(take(tracker))  # the first of its site
        tracker.brief = 0.0
        handle = take(tracker)
        tracker.release(handle)
        assert list(tracker.released) == [handle]


def test_it_forgets_what_the_sites_forget():
    source = "import sys\ndef library(tracker, handle):\n    return tracker.acquire(handle, sys._getframe())\n"
    library = {}
    exec(compile(source, "/x/site-packages/mylib/core.py", "exec"), library)
    for tracker in trackers():
        before = library["library"](tracker, Handle(semconv.CUSTOM))
        tracker.sites.hide("mylib")
        after = library["library"](tracker, Handle(semconv.CUSTOM))
        assert [handle.site.frames[0][0].co_filename for handle in (before, after)] == [
            "/x/site-packages/mylib/core.py",
            __file__,
        ]


def test_a_site_that_leaked_has_its_stack_taken_each_time():
    for tracker in trackers():
        for _ in range(20):
            handle = take(tracker)
        assert handle.stack is None
        handle.site.leaked = True
        assert take(tracker).stack is not None


def test_the_frame_of_a_greenlet_that_waits_is_told_too():
    greenlet = pytest.importorskip("greenlet")

    def wait():
        frames.append(sys._getframe())
        greenlet.getcurrent().parent.switch()

    frames = []
    waiting = greenlet.greenlet(wait)
    waiting.switch()
    plain, swiftly = [tracker.acquire(Handle(semconv.CUSTOM), frames[0]) for tracker in trackers()]
    assert told(swiftly) == told(plain)
    assert swiftly.site.frames[0][0] is wait.__code__
    waiting.switch()


def test_a_frame_that_ended_is_told_too():
    def ended():
        return sys._getframe()

    frame = ended()
    plain, swiftly = [tracker.acquire(Handle(semconv.CUSTOM), frame) for tracker in trackers()]
    assert told(swiftly) == told(plain)


def maker(tracker, **others):
    """A loop whose tasks are noted, and the notes."""
    parts = {"wrapped": asyncio.BaseEventLoop.create_task, "live": [True], "notes": {}, "reach": 3, "place": "a:b"}
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
    assert (run(loop, main), notes) == (None, {})

    loop, _, _ = maker(tracker)
    tracker.clock = lambda: 1 / 0
    assert (run(loop, main), tracker.errors > 0) == (None, True)


def test_what_takes_no_weak_reference_is_returned_all_the_same_and_told():
    failures = []
    _, stand, notes = maker(trackers()[1], wrapped=lambda loop: 1, failed=failures.append)
    assert (stand(object()), notes) == (1, {})
    assert [type(failure) for failure in failures] == [TypeError]


def test_it_leaves_nothing_behind():
    tracker = trackers()[1]

    def hold():
        with trace.use_span(SPAN):
            tracker.release(take(tracker))

    assert left_behind(hold, tracker.brief_holds[semconv.CUSTOM].clear) < 100


def test_it_dies_with_its_tracker():
    tracker = trackers()[1]
    take(tracker)
    gone = weakref.ref(tracker)
    del tracker
    collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("acquire", (object(), None)),
        ("acquire", (Handle(semconv.CUSTOM), object())),
        ("acquire", (Handle("strange"), sys._getframe())),
        ("acquire", ()),
        ("locate", (Handle(semconv.CUSTOM),)),
        ("hold", (object(),)),
        ("enter", (Handle(semconv.CUSTOM), Handle(semconv.CUSTOM))),
        ("enter", (Handle(semconv.CUSTOM), None)),
        ("hold", (Handle(semconv.CUSTOM),)),
        ("release", (None,)),
    ],
)
def test_what_it_cannot_use_is_refused(name, arguments):
    tracker = trackers()[1]
    with pytest.raises(TypeError, match="expected"):
        getattr(tracker, name)(*arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("swift", None), ("live", ()), ("notes", []), ("root", None), ("reach", 99), ("reach", -1), ("place", 1)],
)
def test_a_maker_takes_only_what_it_can_work_with(name, value):
    with pytest.raises((TypeError, ValueError)):
        maker(trackers()[1], **{name: value})


def test_without_it_all_is_as_before(monkeypatch):
    monkeypatch.setitem(sys.modules, swift.MODULE, None)
    tracker = Tracker(Sites(), Clock())
    assert not swift.accelerate(tracker)
    assert (tracker.accelerator, tracker.errors) == (None, 0)
    assert take(tracker) is not None


def test_another_release_of_it_is_told_once_and_does_no_harm(monkeypatch):
    monkeypatch.setitem(sys.modules, swift.MODULE, SimpleNamespace())
    tracker = Tracker(Sites(), Clock())
    assert not swift.accelerate(tracker)
    assert tracker.errors == 1
    assert take(tracker) is not None


@pytest.mark.parametrize("wanted", [False, True])
def test_the_setting_decides(wanted):
    tracker = Runtime(Settings(accelerator=wanted)).tracker
    assert (tracker.accelerator is not None) is wanted

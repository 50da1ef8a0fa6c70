"""The accelerator answers as the Python that it stands for."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
from conftest import needs_accelerator
from garbage import collect
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from swift_steps import Clock, left_behind, trackers

from crawlo_otel_leaks import semconv, swift
from crawlo_otel_leaks.model import Handle, Scope
from crawlo_otel_leaks.owner import current_scope, note_start, this_thread
from crawlo_otel_leaks.runtime import Runtime
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.sites import Sites, resolve
from crawlo_otel_leaks.tenure import MODULE
from crawlo_otel_leaks.tracker import Tracker

needs_accelerator()
TRACER = TracerProvider().get_tracer(__name__)
CLIENTS = TracerProvider().get_tracer("opentelemetry.instrumentation.some")


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
    inner = CLIENTS.start_span("call", kind=trace.SpanKind.CLIENT)
    note_start(inner, trace.set_span_in_context(SPAN))
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
        seen.append((holds.brief, tracker.brief_holds[semconv.CUSTOM].take().values(), tracker.count(semconv.CUSTOM)))
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


def test_without_it_all_is_as_before(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    tracker = Tracker(Sites(), Clock())
    assert not swift.accelerate(tracker)
    assert (tracker.accelerator, tracker.errors) == (None, 0)
    assert take(tracker) is not None


def test_another_release_of_it_is_told_once_and_does_no_harm(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace())
    tracker = Tracker(Sites(), Clock())
    assert not swift.accelerate(tracker)
    assert tracker.errors == 1
    assert take(tracker) is not None


@pytest.mark.parametrize("wanted", [False, True])
def test_the_setting_decides(wanted):
    tracker = Runtime(Settings(accelerator=wanted)).tracker
    assert (tracker.accelerator is not None) is wanted


def test_each_thread_is_told_from_the_others():
    def elsewhere(tracker):
        thread = threading.Thread(target=lambda: found.append(take(tracker)))
        thread.start()
        thread.join()

    for tracker in trackers():
        found = [take(tracker)]
        elsewhere(tracker)
        found.append(take(tracker))
        elsewhere(tracker)
        here, there, again, third = [handle.thread for handle in found]
        assert (here is again, here is there, there is third, here.is_main) == (True, False, False, True)


def test_what_tells_threads_apart_by_other_means_is_asked_each_time(monkeypatch):
    class Greenlets:
        """As gevent's local data, which are a greenlet's own."""

        @property
        def owner(self):
            asked.append(self)
            return this_thread.owner

    asked = []
    monkeypatch.setattr(swift, "this_thread", Greenlets())
    tracker = trackers()[1]
    take(tracker)
    take(tracker)
    assert len(asked) == 2


def test_kinds_do_not_share_a_shelf():
    kinds = [f"kind {number}" for number in range(100)]
    for tracker in trackers():
        tracker.young.update({kind: tracker.stock.shelf() for kind in kinds})
        tracker.old.update({kind: tracker.stock.shelf() for kind in kinds})
        tracker.brief_holds.update({kind: tracker.stock.durations(10) for kind in kinds})
        handles = [tracker.acquire(Handle(kind), sys._getframe()) for kind in kinds * 2]
        assert [tracker.count(kind) for kind in kinds] == [2] * 100
        for handle in handles:
            tracker.release(handle)
        assert [len(tracker.brief_holds[kind]) for kind in kinds] == [2] * 100


def test_the_interpreters_own_clock_is_read_without_a_call():
    tracker = Tracker(Sites())
    assert swift.accelerate(tracker)
    before = time.monotonic()
    at = take(tracker).acquired_at
    assert before <= at <= time.monotonic()

"""What is noted of aiohttp, in C and in Python; of the real one, tests/test_aiohttp_*.py ask whichever is there."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys
import weakref
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from aiohttp.connector import Connection
from conftest import needs_accelerator
from garbage import collect
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from swift_steps import left_behind, line_of

from crawlo_otel_leaks import semconv, swift
from crawlo_otel_leaks.instrumentation._aiohttp_client import Client
from crawlo_otel_leaks.instrumentation._aiohttp_handles import SessionHandle
from crawlo_otel_leaks.owner import end_of
from crawlo_otel_leaks.sites import Sites, resolve
from crawlo_otel_leaks.tracker import Tracker

needs_accelerator()

TRACER = TracerProvider().get_tracer(__name__)
KEY = SimpleNamespace(is_ssl=False, host="example.org", port=80)


class Loop:
    """Of a connection."""


class Connector:
    """Of a connection."""

    def __init__(self):
        self.loop = Loop()


class Session:
    """Asks, as aiohttp's does."""

    async def request(self, connector):
        return Slot(connector)


class Slot:
    """What aiohttp's Connection is to its connector."""

    _source_traceback = None

    def __init__(self, connector):
        self._connector, self._loop, self._protocol, self._key = connector, connector.loop, object(), KEY

    def release(self):
        self._protocol = None

    def drop(self):
        return "dropped"


class Answer:
    """What aiohttp's ClientResponse is when it is dropped."""

    def __init__(self, slot):
        self._slot = slot

    def __del__(self):
        self._slot.release()

    def read(self):
        self._slot.release()


class Parts(SimpleNamespace):
    """A client that notes in C, and the methods that are noted."""

    def stand(self, role, method):
        ways = {
            "ask": self.client.asked,
            "take": self.client.taken,
            "give_back": self.client.given_back,
            "drop": self.client.connection_dropped,
        }
        return self.client.way(role, ways[role])(method, self.live)


def noting(**changed):
    tracker = Tracker(Sites())
    assert swift.accelerate(tracker)
    asking = tracker.accelerator.asking
    tracker.accelerator = tracker.accelerator._replace(asking=lambda **parts: asking(**{**parts, **changed}))
    return Parts(tracker=tracker, client=Client(tracker), live=[True])


@pytest.fixture(params=["in C", "in Python"])
def parts(monkeypatch, request):
    made = noting()
    if request.param == "in Python":
        made.tracker = Tracker(Sites())
        made.client = Client(made.tracker)
    for kind, name, role in (
        (Session, "request", "ask"),
        (Slot, "__init__", "take"),
        (Slot, "release", "give_back"),
        (Slot, "drop", "drop"),
    ):
        monkeypatch.setattr(kind, name, made.stand(role, vars(kind)[name]))
    return made


def finish(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        return stopped.value


def test_a_slot_belongs_to_where_its_request_was_asked_for(parts):
    request = Session().request(Connector())  # here
    line = inspect.currentframe().f_lineno - 1
    slot = finish(request)
    (handle,) = parts.tracker.held([semconv.HTTP_CONNECTION])
    assert line_of(handle) == line
    assert (handle.label(), handle.referent()) == ("http://example.org:80", slot)
    slot.release()
    assert list(parts.tracker.held()) == []
    assert parts.tracker.errors == 0


def test_what_is_noted_of_a_request_leaves_nothing_behind(parts):
    through, session = Connector(), Session()

    def turn():
        finish(session.request(through)).release()

    def tick():
        parts.tracker.brief_holds[semconv.HTTP_CONNECTION].clear()
        for chore in parts.tracker.chores:
            chore()

    assert left_behind(turn, tick) < 100


def test_a_handle_that_is_over_may_stand_for_a_later_request_which_knows_nothing_of_it(parts):
    session = Session()
    for again in range(6):
        with TRACER.start_as_current_span("request") as span:
            slot = finish(session.request(Connector()))
        (handle,) = parts.tracker.held([semconv.HTTP_CONNECTION])
        assert (handle.span, handle.referent(), handle.released_at) == (span, slot, None)
        assert (handle.process, handle.shared, handle.websocket()) == (False, False, None), again
        del handle
        slot.release()
    kept = finish(session.request(Connector()))
    (handle,) = parts.tracker.held([semconv.HTTP_CONNECTION])
    for _ in range(6):  # one that is held, or that somebody has, stays what it is
        finish(session.request(Connector())).release()
    assert list(parts.tracker.held()) == [handle]
    assert handle.referent() is kept
    kept.release()
    since = handle.released_at
    for _ in range(6):
        finish(session.request(Connector())).release()
    assert handle.released_at == since


def test_two_slots_of_one_request_have_a_handle_each(parts):
    class Redirected(Session):
        async def both(self, through):
            return [Slot(through), Slot(through)]

    Redirected.both = parts.stand("ask", Redirected.both)
    slots = finish(Redirected().both(Connector()))
    assert len(list(parts.tracker.held())) == 2
    assert len({handle.site for handle in parts.tracker.held()}) == 1
    for slot in slots:
        slot.release()
    assert list(parts.tracker.held()) == []


@pytest.mark.parametrize(("released", "told"), [(False, 1), (True, 0)])
def test_a_slot_that_is_dropped_is_abandoned_unless_it_has_no_protocol(parts, released, told):
    slot = Slot(Connector())
    if released:
        slot._protocol = None
    assert slot.drop() == "dropped"
    assert (len(parts.tracker.abandoned), list(parts.tracker.held())) == (told, [])
    assert slot.drop() == "dropped"


@pytest.mark.parametrize(("is_read", "told"), [(False, 1), (True, 0)])
def test_a_response_that_is_dropped_unread_abandons_its_slot(parts, is_read, told):
    answer = Answer(Slot(Connector()))
    if is_read:
        answer.read()
    del answer
    assert (len(parts.tracker.abandoned), list(parts.tracker.held())) == (told, [])


def test_what_is_not_live_goes_straight_through(parts):
    parts.live.clear()
    finish(Session().request(Connector())).release()
    assert parts.tracker.ignored == 0
    assert list(parts.tracker.held()) == []


def opened(parts, session):
    """Return the handle of a session, which nobody has acquired yet."""
    handle = SessionHandle(semconv.HTTP_SESSION)
    handle.requests, handle.connector, handle.ref = 0, 0, weakref.ref(session)
    parts.client._open[id(session)] = handle
    return handle


@pytest.mark.parametrize("another", [False, True])
def test_a_session_counts_its_requests_and_who_makes_them(parts, another):
    session = Session()
    handle = opened(parts, session)
    parts.tracker.acquire(handle, sys._getframe())
    if another:
        handle.scope = object()
    session.request(Connector()).close()
    assert (handle.requests, handle.shared) == (1, another)


@pytest.mark.parametrize(("inherits", "is_over", "shared"), [(1, 0, 0), (0, 0, 1), (1, 1, 1)])
def test_other_tasks_of_its_span_may_use_a_session_until_its_own_is_over(parts, inherits, is_over, shared):
    async def opener():
        parts.tracker.acquire(handle, sys._getframe())
        if not is_over:
            await asyncio.Event().wait()

    async def user():
        with trace.use_span(span if inherits else another):
            session.request(Connector()).close()

    async def main():
        with trace.use_span(span):
            opening = asyncio.create_task(opener())
        await asyncio.sleep(0)
        await asyncio.create_task(user())
        opening.cancel()

    span, another, session = TRACER.start_span("its own"), TRACER.start_span("another"), Session()
    handle = opened(parts, session)
    asyncio.run(main())
    assert (handle.requests, handle.shared) == (1, bool(shared))


def test_who_inherits_a_span_is_told_without_a_way_through_python(monkeypatch):
    async def user():
        session.request(Connector()).close()

    async def main():
        with trace.use_span(TRACER.start_span("work")):
            made.tracker.acquire(handle, sys._getframe())
            await asyncio.create_task(user())

    uses = []
    made, session = noting(use=uses.append), Session()
    monkeypatch.setattr(Session, "request", made.stand("ask", Session.request))
    handle = opened(made, session)
    asyncio.run(main())
    assert (handle.requests, uses, made.tracker.errors) == (1, [], 0)


def ends_by_a_property(span, kind):
    del span
    kind._end_time = property(lambda _: 1)


def ends_in_another_dictionary(span, kind):
    del kind
    span.__dict__ = {"_end_time": 1}


def ends(span, kind):
    del kind
    vars(span)["_end_time"] = 1


def ends_among_many_others(span, kind):
    del kind
    vars(span).update({f"other_{number}": number for number in range(100)}, _end_time=1)


def lacks_an_end(span, kind):
    del kind
    del span._end_time


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        *((one, (1, 0)) for one in (ends, ends_by_a_property, ends_in_another_dictionary, ends_among_many_others)),
        (lacks_an_end, (0, 1)),
    ],
)
def test_the_end_of_a_span_is_found_wherever_the_span_has_it(monkeypatch, change, expected):
    class Recorded(trace.NonRecordingSpan):
        def __init__(self):
            super().__init__(trace.SpanContext(1, 1, is_remote=False))
            self._end_time = None

        def is_recording(self):
            return self._end_time is None

    assert end_of(Recorded) == "_end_time"
    uses = []
    made, session, span = noting(use=uses.append), Session(), Recorded()
    monkeypatch.setattr(Session, "request", made.stand("ask", Session.request))
    handle = opened(made, session)
    with trace.use_span(span):
        made.tracker.acquire(handle, sys._getframe())
        session.request(Connector()).close()
        assert (uses, made.tracker.errors) == ([], 0)
        change(span, Recorded)
        session.request(Connector()).close()
    assert (len(uses), made.tracker.errors) == expected


class Named(NamedTuple):
    """A key as aiohttp has it of late."""

    host: str
    port: int | None
    is_ssl: bool


class Slotted:
    """A key as aiohttp had it before."""

    __slots__ = ("host", "is_ssl", "port")

    def __init__(self, host, port, is_ssl):
        self.host, self.port, self.is_ssl = host, port, is_ssl


@pytest.mark.parametrize("kind", [SimpleNamespace, Named, Slotted])
def test_each_host_and_port_has_a_name_of_its_own(parts, monkeypatch, kind):
    def name_of(secure, host, port):
        monkeypatch.setattr(sys.modules[__name__], "KEY", kind(is_ssl=secure, host=host, port=port))
        slot = finish(Session().request(Connector()))
        (handle,) = parts.tracker.held()
        label = handle.label()
        slot.release()
        return label

    keys = [(False, "a", 80), (False, "a", 80), (True, "a", 80), (True, "b", 80), (True, "b", 81), (True, "b", None)]
    assert [name_of(*key) for key in keys] == [
        *("http://a:80", "http://a:80", "https://a:80", "https://b:80", "https://b:81", "https://b:None")
    ]


@pytest.mark.parametrize("end", ["released late", "dropped"])
def test_a_slot_has_a_name_when_its_connection_is_gone(parts, end):
    slot = finish(Session().request(Connector()))
    (handle,) = parts.tracker.held()
    if end == "dropped":
        slot.drop()
    else:
        handle.acquired_at -= 60
        slot.release()
    del slot
    assert (handle.released_at is not None, handle.referent(), handle.label()) == (True, None, "http://example.org:80")


def test_a_key_that_lacks_something_is_our_failure_and_holds_nothing(parts, monkeypatch):
    slots = []
    for key in (Named("a", 80, is_ssl=False), tuple.__new__(Named, ("a",)), object()):
        monkeypatch.setattr(sys.modules[__name__], "KEY", key)
        slots.append(finish(Session().request(Connector())))
    assert [handle.label() for handle in parts.tracker.held()] == ["http://a:80", "", ""]
    assert parts.tracker.errors == 0
    for slot in slots:
        slot.drop()
    assert (len(list(parts.tracker.held())), parts.tracker.errors) == (0, 2)


def test_many_functions_may_be_asked(parts):
    def asking(number):
        async def request(session, connector):
            del session
            return Slot(connector)

        # Code of its own, as each function of a library has.
        request.__code__ = request.__code__.replace(co_name=f"request_{number}")
        return type("Other", (Session,), {"request": parts.stand("ask", request)})

    kinds = [asking(number) for number in range(7)]
    requests = [kind().request(Connector()) for kind in kinds]  # here
    line = inspect.currentframe().f_lineno - 1
    slots = [finish(request) for request in requests]
    sites = {handle.site for handle in parts.tracker.held()}
    assert {resolve(site.frames)[0].line for site in sites} == {line}
    for slot in slots:
        slot.release()
    assert list(parts.tracker.held()) == []


@pytest.mark.parametrize("parts", ["in C"], indirect=True)
def test_a_stand_shows_itself_as_the_method(parts):
    assert inspect.iscoroutinefunction(Session.request)
    assert inspect.signature(Slot.release) == inspect.signature(Slot.release.__wrapped__)
    assert Session.request.__qualname__ == "Session.request"
    assert isinstance(Session.__dict__["request"], type(finish))
    assert pickle.loads(pickle.dumps(Connection.release)) is Connection.release


def test_failures_of_ours_are_told_and_are_none_of_the_hosts(parts):
    parts.tracker.clock = lambda: 1 / 0
    slot = finish(Session().request(Connector()))
    assert isinstance(slot, Slot)
    assert parts.tracker.errors == 1


def test_what_ends_the_program_goes_through(parts):
    def interrupted():
        raise KeyboardInterrupt

    parts.tracker.clock = interrupted
    with pytest.raises(KeyboardInterrupt):
        Slot(Connector())
    assert parts.tracker.errors == 0


@pytest.mark.parametrize("part", ["swift", "template", "session_type", "asked", "open", "tunnel", "finalizer"])
def test_it_takes_only_what_it_can_work_with(part):
    with pytest.raises(TypeError):
        noting(**{part: None})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("sleep", len, []), ValueError),
        (("ask", len, ()), TypeError),
        (("ask",), TypeError),
        (("ask", object(), []), AttributeError),
    ],
)
def test_it_says_what_it_expects_of_a_stand(arguments, error):
    with pytest.raises(error):
        noting().client._swift.stand(*arguments)


def test_it_dies_with_its_client():
    made = noting()
    gone = weakref.ref(made.client)
    stand = made.stand("ask", Session.request)
    del made
    collect()
    assert gone() is not None, "the stand needs it"
    del stand
    collect()
    assert gone() is None


def test_who_asks_a_proxy_for_a_way_through_holds_no_slot_by_that(parts):
    def _create_proxy_connection():
        return Slot(Connector())

    assert isinstance(_create_proxy_connection(), Slot)
    assert (list(parts.tracker.held()), parts.tracker.errors) == ([], 0)


def test_a_closed_tracker_holds_nothing(parts):
    parts.tracker.closed = True
    finish(Session().request(Connector())).release()
    assert (list(parts.tracker.held()), parts.tracker.ignored, parts.tracker.errors) == ([], 2, 0)


@pytest.mark.parametrize(("parts", "left"), [("in Python", 1), ("in C", 2)], indirect=["parts"])
def test_debug_mode_does_not_show_our_own_frame(parts, monkeypatch, left):
    lines = ["the caller's", "ours, where there is one"]
    monkeypatch.setattr(Slot, "_source_traceback", lines)
    Slot(Connector()).release()
    assert len(lines) == left
    assert parts.tracker.errors == 0


def test_an_awaitable_that_is_no_coroutine_is_let_through(parts):
    class Eager(Session):
        def request(self, connector):
            return Slot(connector)

    Eager.request = parts.stand("ask", Eager.request)
    Eager().request(Connector()).release()
    assert (list(parts.tracker.held()), parts.tracker.errors) == ([], 0)

from __future__ import annotations

import asyncio
import sys

import aiohttp
import pytest
from aiohttp_steps import LEAK, in_a_request, keep, slots, tracer
from garbage import collect

from crawlo_otel_leaks.instrumentation._origins import FEW, Origins
from crawlo_otel_leaks.model import Handle

pytest_plugins = ["local_site"]


@pytest.mark.parametrize("method", ["get", "request", "_request"])
def test_the_site_is_the_callers_whatever_the_method(watched, with_session, method):
    async def fetch(session):
        call = getattr(session, method)
        return await (call("/large") if method == "get" else call("GET", "/large"))

    async def main(_site, session):
        response = await fetch(session)
        assert slots(watched)[0].site.frames[0][0] is fetch.__code__
        response.close()

    with_session(main)


@pytest.mark.parametrize("start", ["task", "gather", "wait_for", "shield"])
def test_the_site_is_the_callers_however_it_is_awaited(watched, with_session, start):
    async def fetch(session):
        asked = session.get("/large")
        if start == "task":
            return await asyncio.create_task(asked)
        if start == "gather":
            return (await asyncio.gather(asked))[0]
        return await (asyncio.wait_for(asked, 10) if start == "wait_for" else asyncio.shield(asked))

    async def main(_site, session):
        with tracer.start_as_current_span("request") as span:
            response = await fetch(session)
        (slot,) = slots(watched)
        assert slot.site.frames[0][0] is fetch.__code__
        assert slot.span.get_span_context() == span.get_span_context()
        response.close()

    with_session(main)


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
def test_a_subclass_is_named_and_placed_where_it_was_made(watched, visit):
    class Crawler(aiohttp.ClientSession):
        def __init__(self, **options):
            super().__init__(**options)

    collect()  # what earlier tests left in cycles

    async def maker():
        Crawler()

    async def main(_site):
        await maker()
        collect()
        watched.pass_time(1)
        async with Crawler():
            watched.pass_time(1)

    visit(main)
    assert watched.verdicts == [("http.session", "abandoned")]
    leak = watched.recorder.opened_leaks[0]
    assert leak.name.endswith("Crawler")
    assert leak.where.text == "Crawler()"


def test_a_finished_request_is_not_taken_for_the_one_that_got_its_frame_s_address():
    async def request():
        pass

    origins, handle, frame = Origins([]), Handle("http.connection"), sys._getframe()
    finished = request()
    origins.add(finished, handle)
    assert origins.of(finished.cr_frame) is handle
    origins.by_frame[id(frame)] = next(iter(origins.by_frame.values()))
    with pytest.raises(StopIteration):
        finished.send(None)
    assert origins.nearest(frame) is None


def test_what_was_noted_of_finished_requests_does_not_pile_up_until_the_next_tick():
    async def request():
        pass

    origins, frames, under_way = Origins([]), [], [request() for _ in range(FEW)]
    for asked in under_way:
        origins.add(asked, Handle("http.connection"))
    for _ in range(3 * FEW):
        finished = request()
        origins.add(finished, Handle("http.connection"))
        frames.append(finished.cr_frame)  # none of them is where one was before, as on 3.11
        finished.close()
        del finished
    assert len(origins.by_frame) <= 2 * FEW + 1
    assert all(origins.of(asked.cr_frame) for asked in under_way)
    for asked in under_way:
        asked.close()


def test_what_was_noted_of_requests_ends_with_them(watched, with_session):
    async def main(_site, session):
        for _ in range(10):
            async with session.get("/small") as response:
                await response.read()

    with_session(main)
    watched.pass_time(1)
    (find,) = watched.runtime.finders
    client = find.__self__
    assert len(client._requests.by_frame) == 0
    assert (len(client._open), len(client._sessions)) == (0, 0)


def test_the_parent_is_the_users_span_beside_contribs_client_span(watched_beside_contrib, visit, telemetry):
    async def main(site):
        kept = []
        session = await make(site)
        span = await in_a_request(keep(kept, session, "/large"))
        watched_beside_contrib.settle()
        kept[0].close()
        await session.close()
        return span

    async def make(site):
        return aiohttp.ClientSession(site.url)

    span = visit(main)
    assert watched_beside_contrib.verdicts == [LEAK]
    assert telemetry.spans("leak http.connection")[0].parent.span_id == span.get_span_context().span_id
    assert [span.name for span in telemetry.spans("GET")] == ["GET"]


def test_sessions_are_placed_at_the_users_line_beside_contrib(watched_beside_contrib, visit):
    async def make(site):
        return aiohttp.ClientSession(site.url)

    async def main(site):
        session = await make(site)
        (handle,) = watched_beside_contrib.held
        assert handle.site.frames[0][0] is make.__code__
        await session.close()

    visit(main)

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp_steps import tracer
from garbage import collect, hearing

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.aiohttp import SessionHandle

pytest_plugins = ["local_site"]


def sessions(rig):
    return [handle for handle in rig.held if isinstance(handle, SessionHandle)]


@pytest.fixture
def collected():
    """Whatever earlier tests left in cycles must not be told in this one."""
    collect()


async def close_with_block(_site):
    async with aiohttp.ClientSession() as session:
        assert not session.closed


async def close_explicitly(_site):
    await aiohttp.ClientSession().close()


async def close_as_task(_site):
    await asyncio.create_task(aiohttp.ClientSession().close())


async def close_after_detach(_site):
    session = aiohttp.ClientSession()
    connector = session.connector
    session.detach()
    await connector.close()


async def close_connector_alone(_site):
    session = aiohttp.ClientSession()
    await session.connector.close()
    assert session.closed


async def close_shared_connector(_site):
    connector = aiohttp.TCPConnector()
    for _ in range(3):
        await aiohttp.ClientSession(connector=connector, connector_owner=False).close()
    await connector.close()


async def leave_to_shared_connector(_site):
    connector = aiohttp.TCPConnector()
    made = [aiohttp.ClientSession(connector=connector, connector_owner=False) for _ in range(3)]
    await connector.close()
    assert all(session.closed for session in made)


async def request_of_the_module(site):
    async with aiohttp.request("GET", f"{site.url}/small") as response:
        assert await response.text() == "small"


@pytest.mark.parametrize(
    "program",
    [
        close_with_block,
        close_explicitly,
        close_as_task,
        close_after_detach,
        close_connector_alone,
        close_shared_connector,
        leave_to_shared_connector,
        request_of_the_module,
    ],
)
def test_every_way_to_close_ends_the_session(watched, visit, program):
    async def main(site):
        for _ in range(3):
            with tracer.start_as_current_span("request"):
                await program(site)
        watched.settle()
        assert watched.held == []

    visit(main)
    collect()
    watched.settle()
    assert watched.verdicts == []
    assert len(watched.recorder.released_handles) >= 3


@pytest.mark.usefixtures("collected")
def test_a_session_that_is_dropped_is_abandoned_at_its_line(watched, visit):
    async def careless():
        aiohttp.ClientSession()

    async def main(_site):
        await careless()
        collect()
        watched.pass_time(1)

    visit(main)
    assert watched.verdicts == [("http.session", "abandoned")]
    leak = watched.recorder.opened_leaks[0]
    assert leak.where.function.endswith("careless")
    assert leak.where.text == "aiohttp.ClientSession()"
    assert leak.name == "ClientSession"


@pytest.mark.usefixtures("collected")
def test_a_close_that_nobody_awaits_closes_nothing(watched, visit):
    async def forgetful():
        session = aiohttp.ClientSession()
        with hearing() as caught:
            session.close()
            collect()
        return [str(warning.message) for warning in caught]

    async def main(_site):
        told = await forgetful()
        collect()
        watched.pass_time(1)
        return told

    assert visit(main) == ["coroutine 'ClientSession.close' was never awaited"]
    assert watched.verdicts == [("http.session", "abandoned")]


@pytest.mark.usefixtures("collected")
def test_a_session_dropped_after_somebody_closed_its_connector_is_no_leak(watched, visit):
    async def main(_site):
        connector = aiohttp.TCPConnector()
        session = aiohttp.ClientSession(connector=connector)
        await connector.close()
        del session
        collect()
        watched.settle()

    visit(main)
    assert watched.verdicts == []


async def handle_requests(kept, number=3, *, close=False):
    for _ in range(number):
        with tracer.start_as_current_span("request") as span:
            kept.append(aiohttp.ClientSession())
            if close:
                await kept[-1].close()
    return span


def test_sessions_made_per_request_and_kept_outlive_their_spans(watched, visit, telemetry):
    async def main(_site):
        kept = []
        last = await handle_requests(kept)
        watched.settle()
        for session in kept:
            await session.close()
        watched.pass_time(1)
        return last

    last = visit(main)
    assert watched.verdicts == [("http.session", "owner_finished")] * 3
    assert len(watched.recorder.resolved_leaks) == 3
    assert telemetry.spans("leak http.session")[-1].parent.span_id == last.get_span_context().span_id


def test_sessions_made_per_request_and_closed_are_no_leak(watched, visit):
    async def main(_site):
        await handle_requests([], close=True)
        watched.settle()

    visit(main)
    assert watched.verdicts == []


class Lazy:
    """One session, made by whoever comes first."""

    session = None

    async def get(self, url):
        if self.session is None:
            self.session = aiohttp.ClientSession()
        async with self.session.get(url) as response:
            return await response.text()


def test_one_session_made_by_the_first_request_and_shared_by_later_ones_is_no_leak(watched, visit):
    async def main(site):
        lazy = Lazy()
        for _ in range(3):
            with tracer.start_as_current_span("request"):
                await asyncio.create_task(lazy.get(f"{site.url}/small"))
            watched.settle()
        assert len(sessions(watched)) == 1
        await lazy.session.close()
        watched.settle()

    visit(main)
    assert watched.verdicts == []


def test_lazily_shared_sessions_of_many_objects_are_no_leak(watched, visit):
    """Several of one site, each used by later requests: what tells is the use, not the number."""

    async def main(site):
        lazies = [Lazy() for _ in range(3)]
        for _ in range(3):
            for lazy in lazies:
                with tracer.start_as_current_span("request"):
                    await asyncio.create_task(lazy.get(f"{site.url}/small"))
            watched.pass_time(1)
        watched.settle()
        assert len(sessions(watched)) == 3
        for lazy in lazies:
            await lazy.session.close()

    visit(main)
    watched.settle()
    assert watched.verdicts == []


def test_a_session_kept_beyond_its_loop_is_told(watched, visit):
    kept = []

    async def main(_site):
        kept.append(aiohttp.ClientSession())

    visit(main)
    assert watched.verdicts == []
    watched.settle()
    assert watched.verdicts == [("http.session", "loop_closed")]


def test_a_session_kept_to_the_exit_is_told_then_unless_the_process_adopted_it(watched, visit):
    async def main(_site):
        session, exempt = aiohttp.ClientSession(), adopt(aiohttp.ClientSession())
        watched.settle()
        assert watched.verdicts == []
        watched.runtime.detector.finish(exiting=True)
        assert watched.verdicts == [("http.session", "process_exit")]
        await session.close()
        await exempt.close()

    visit(main)


def test_closing_one_session_leaves_others_of_its_connector_open(watched, visit):
    async def main(_site):
        connector = aiohttp.TCPConnector()
        first, second = (aiohttp.ClientSession(connector=connector, connector_owner=False) for _ in range(2))
        await first.close()
        assert [handle.referent() for handle in sessions(watched)] == [second]
        await connector.close()
        assert sessions(watched) == []

    visit(main)
    assert watched.verdicts == []


def test_a_session_that_failed_to_be_made_is_none(watched, visit):
    async def main(_site):
        with pytest.raises(TypeError):
            aiohttp.ClientSession(no_such_option=1)
        collect()
        watched.settle()

    visit(main)
    assert watched.verdicts == []
    assert watched.held == []

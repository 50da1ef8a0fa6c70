"""Requests that are cancelled, or run out of time, before they have a connection."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from aiohttp_steps import cancelled, in_a_request, released, slots, until

pytest_plugins = ["local_site"]


def test_cancelling_one_that_waits_for_a_slot_takes_none(watched, visit):
    async def main(site):
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(site.url, connector=connector) as session:
            async with session.get("/large"):
                waiting = asyncio.ensure_future(session.get("/small"))
                await asyncio.sleep(0.02)
                await cancelled(waiting)
                assert len(slots(watched)) == 1
            assert await (await session.get("/small")).text() == "small"
            watched.settle()
            assert slots(watched) == []

    visit(main)
    assert watched.verdicts == []
    assert len(released(watched)) == 2


class Unanswering(AbstractResolver):
    """Never finds an address."""

    def __init__(self):
        self.asked = asyncio.Event()

    async def resolve(self, *_about, **_more):
        self.asked.set()
        await asyncio.Event().wait()

    async def close(self):
        pass


def test_cancelling_one_that_connects_takes_none(watched, visit):
    async def main(_site):
        resolver = Unanswering()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
            connecting = asyncio.create_task(in_a_request(session.get("http://nowhere.test/")))
            await resolver.asked.wait()
            await cancelled(connecting)
            watched.settle()
            assert slots(watched) == []
            assert not session.connector._acquired

    visit(main)
    assert watched.verdicts == []
    assert released(watched) == []


def test_one_that_runs_out_of_time_while_it_connects_takes_none(watched, visit):
    async def main(_site):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Unanswering())) as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get("http://nowhere.test/", timeout=aiohttp.ClientTimeout(total=0.05))
            watched.settle()
            assert slots(watched) == []

    visit(main)
    assert watched.verdicts == []


def test_one_cancelled_after_it_was_answered_leaves_the_body_to_its_caller(watched, with_session):
    """The leaky twin: the response came, was kept, and the task that would have read it is cancelled."""

    async def fetch(session, kept):
        kept.append(await session.get("/large"))
        await asyncio.Event().wait()

    async def main(_site, session):
        kept = []
        fetching = asyncio.create_task(in_a_request(fetch(session, kept)))
        await until(lambda: kept)
        watched.settle()
        assert watched.verdicts == []
        await cancelled(fetching)
        watched.settle()
        kept[0].close()

    with_session(main)
    assert watched.verdicts == [("http.connection", "owner_finished")]

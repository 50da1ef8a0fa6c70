"""Sockets beside the watches of libraries that open them: a leak is told once, by what is above."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
import servers
from aiohttp_steps import LEAK, in_a_request, keep
from garbage import collect
from socket_steps import sockets

from crawlo_otel_leaks import scope
from crawlo_otel_leaks.endpoint import Endpoint
from crawlo_otel_leaks.instrumentation._makers import Maker
from crawlo_otel_leaks.instrumentation.redis import RedisInstrumentor
from crawlo_otel_leaks.instrumentation.selectors import SelectorsInstrumentor
from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor
from crawlo_otel_leaks.model import Handle

pytest_plugins = ["local_site"]
BELOW = (SocketsInstrumentor, SelectorsInstrumentor)


@pytest.fixture(autouse=True)
def _below(rig):
    """Sockets and event loops are watched."""
    for one in BELOW:
        one().instrument()
    yield
    for one in BELOW:
        one().uninstrument()


def test_a_leaked_response_is_one_leak_that_holds_a_socket(watched, with_session):
    kept = []

    async def work(_site, session):
        for _ in range(2):
            await in_a_request(keep(kept, session, "/large"))
        watched.settle()
        assert watched.verdicts == [LEAK, LEAK]
        for leak in watched.recorder.opened_leaks:
            (held,) = leak.holds
            assert held.startswith("socket tcp 127.0.0.1:")
        for response in kept:
            response.close()

    with_session(work)
    watched.settle()
    assert watched.verdicts == [LEAK, LEAK]


def test_one_that_is_read_is_none(watched, with_session):
    async def work(_site, session):
        for _ in range(2):
            async with session.get("/large") as response:
                await response.read()
        watched.settle()

    with_session(work)
    collect()
    watched.settle()
    assert watched.verdicts == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_is_dropped_answers_for_its_sockets(watched, visit):
    import aiohttp  # noqa: PLC0415  (beside what it is for)

    async def work(site):
        session = aiohttp.ClientSession(site.url)
        async with session.get("/small") as response:
            await response.read()
        watched.runtime.tick()

    visit(work)
    collect()
    watched.settle()
    assert watched.verdicts == [("http.session", "abandoned")]


def test_what_a_pool_keeps_is_the_pools_and_explains_its_descriptors(rig):
    import redis  # noqa: PLC0415  (as above)

    RedisInstrumentor().instrument()
    host, port = servers.valkey()
    with scope("job"):
        client = redis.Redis(host=host, port=port)
        client.ping()
    (idle,) = sockets(rig)
    assert idle.made_by is Maker.WATCHED
    assert set(idle.descriptors()) <= rig.runtime.vitals._explained()
    client.close()
    assert sockets(rig) == []
    with scope("job"):
        client = redis.Redis(host=host, port=port)
        client.ping()
    rig.settle()
    del client
    collect()
    rig.settle()
    assert rig.verdicts == []
    RedisInstrumentor().uninstrument()


def test_our_own_are_ignored_and_counted(rig):
    before = rig.runtime.tracker.ignored
    endpoint = Endpoint()
    endpoint.open()
    assert sockets(rig) == []
    assert rig.runtime.tracker.ignored == before + 1
    endpoint.close()


def test_a_loop_of_another_thread_answers_for_all_it_is_made_of(rig):
    seen = []

    def work():
        loop = asyncio.new_event_loop()
        seen.append((len(rig.held), sockets(rig)))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(1, [])]


def test_a_line_that_takes_two_kinds_has_a_site_of_each(rig):
    """Else a connection would no longer be the only one of its line."""
    made = [Handle("socket"), Handle("db.connection")]
    for handle in made:
        rig.runtime.tracker.acquire(handle, sys._getframe())
    assert made[0].site.frames == made[1].site.frames
    assert [handle.site.acquired for handle in made] == [1, 1]
    for handle in made:
        rig.runtime.tracker.release(handle)

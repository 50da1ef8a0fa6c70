"""httpx2, which has the shape of httpx: what is tested there in full holds here too."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from conftest import watching
from garbage import collect
from http_steps import DROPPED, LEAK, in_a_request, in_a_task, sessions, slots, wait_for_buffers

from crawlo_otel_leaks.instrumentation.httpx import Httpx2Instrumentor, HttpxInstrumentor

pytest_plugins = ["thread_site"]


@pytest.fixture
def watched_httpx2(rig):
    """Both are watched, as where both are installed."""
    with watching(rig, HttpxInstrumentor(), Httpx2Instrumentor()):
        yield rig


@pytest.fixture
def with_client(threaded_site):
    def run(program):
        async def main():
            limits = httpx2.Limits(max_connections=1)
            async with httpx2.AsyncClient(base_url=threaded_site.url, limits=limits, trust_env=False) as made:
                return await program(made)

        return asyncio.run(main())

    return run


async def ask(made, path):
    return await made.send(made.build_request("GET", path), stream=True)


def test_an_unread_response_is_told_and_whoever_waits_for_its_connection_is_told_who_holds_it(
    watched_httpx2, with_client
):
    async def main(made):
        _, response = await in_a_task(ask, made, "/large")
        wait_for_buffers(watched_httpx2)
        watched_httpx2.settle()
        with pytest.raises(httpx2.PoolTimeout) as caught:
            await made.get("/small", timeout=httpx2.Timeout(5, pool=0.01))
        await response.aclose()
        return caught.value

    [note] = with_client(main).__notes__
    assert note.startswith("1 of 1 connections of pool httpx2 held: 1 since")
    assert watched_httpx2.verdicts == [LEAK]
    leak = watched_httpx2.recorder.opened_leaks[0]
    assert leak.where.text == 'return await made.send(made.build_request("GET", path), stream=True)'
    assert watched_httpx2.held == []


def test_what_is_read_left_or_fails_is_no_leak(watched_httpx2, with_client):
    async def work(made):
        assert (await made.get("/redirect", follow_redirects=True)).text == "small"
        async with made.stream("GET", "/large"):
            pass
        with pytest.raises(httpx2.TimeoutException):
            await made.get("/silent", timeout=0.05)
        with pytest.raises(httpx2.ConnectError):
            await made.get("http://127.0.0.1:1/")

    async def main(made):
        for _ in range(2):
            await in_a_task(work, made)
        assert slots(watched_httpx2) == []
        watched_httpx2.settle()

    with_client(main)
    assert watched_httpx2.verdicts == []
    assert watched_httpx2.held == []


def test_a_dropped_response_and_clients_of_each_request(watched_httpx2, threaded_site):
    with httpx2.Client(base_url=threaded_site.url, trust_env=False) as made:
        in_a_request(lambda: made.send(made.build_request("GET", "/large"), stream=True))
        collect()
        watched_httpx2.settle()
    kept = [in_a_request(httpx2.Client)[1] for _ in range(2)]
    watched_httpx2.settle()
    assert watched_httpx2.verdicts == [DROPPED, *[("http.session", "owner_finished")] * 2]
    for one in kept:
        one.close()
    assert sessions(watched_httpx2) == []

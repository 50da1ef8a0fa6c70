"""httpx's clients from creation to close; HTTP/2; transports without sockets."""

from __future__ import annotations

import asyncio
import warnings

import httpx
import pytest
from garbage import collect, hearing
from http_steps import in_a_request, in_a_task, sessions, slots, tracer
from httpx_steps import client

pytest_plugins = ["thread_site", "httpx_clients"]


def close(url):
    made = httpx.Client()
    made.get(url)
    made.close()


def leave(url):
    with httpx.Client() as made:
        made.get(url)


@pytest.mark.parametrize("way", [close, leave])
def test_every_way_to_close_ends_a_client(watched_httpx, threaded_site, way):
    for _ in range(3):
        in_a_request(way, threaded_site.url + "/small")
    watched_httpx.settle()
    assert watched_httpx.held == []
    assert watched_httpx.verdicts == []


def test_every_way_to_close_ends_an_asyncio_client(watched_httpx, threaded_site):
    async def main():
        for _ in range(3):
            async with httpx.AsyncClient() as made:
                await made.get(threaded_site.url + "/small")
            await httpx.AsyncClient().aclose()

    asyncio.run(main())
    watched_httpx.settle()
    assert watched_httpx.held == []
    assert watched_httpx.verdicts == []


def make(kept, kind=httpx.Client):
    kept.append(kind())
    return kept[-1]


def test_clients_made_per_request_and_kept_outlive_their_spans(watched_httpx):
    kept = []
    for _ in range(3):
        in_a_request(make, kept)
    watched_httpx.settle()
    assert watched_httpx.verdicts == [("http.session", "owner_finished")] * 3
    leak = watched_httpx.recorder.opened_leaks[0]
    assert (leak.name, leak.where.text) == ("Client", "kept.append(kind())")
    for made in kept:
        made.close()
    watched_httpx.pass_time(1)
    assert len(watched_httpx.recorder.resolved_leaks) == 3


def test_a_client_that_is_left_to_the_exit_is_told_then(watched_httpx):
    with in_a_request(make, [])[1]:
        watched_httpx.settle()
        assert watched_httpx.verdicts == []
        watched_httpx.runtime.detector.finish(exiting=True)
    assert watched_httpx.verdicts == [("http.session", "process_exit")]


def test_a_client_shared_by_requests_is_no_leak(watched_httpx, threaded_site):
    kept = [in_a_request(make, [])[1] for _ in range(2)]
    for _ in range(3):
        for made in kept:
            in_a_request(made.get, threaded_site.url + "/small")
        watched_httpx.pass_time(1)
    watched_httpx.settle()
    assert watched_httpx.verdicts == []
    assert len(sessions(watched_httpx)) == 2
    for made in kept:
        made.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_that_is_dropped_with_connections_is_abandoned(watched_httpx, threaded_site):
    async def careless():
        made = httpx.AsyncClient()
        return (await made.get(threaded_site.url + "/small")).text

    async def main():
        assert await careless() == "small"
        collect()
        watched_httpx.pass_time(1)

    asyncio.run(main())
    assert watched_httpx.verdicts == [("http.session", "abandoned")]
    assert watched_httpx.recorder.opened_leaks[0].where.text == "made = httpx.AsyncClient()"
    collect()


def test_a_client_that_is_dropped_without_connections_costs_nothing(watched_httpx):
    mocked = httpx.MockTransport(lambda request: httpx.Response(200, text="mocked"))
    for _ in range(3):
        in_a_request(httpx.Client)
        assert in_a_request(lambda: httpx.Client(transport=mocked).get("http://mocked/").text)[1] == "mocked"
    collect()
    watched_httpx.settle()
    assert watched_httpx.verdicts == []
    assert watched_httpx.held == []


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})


def answer_by_wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"wsgi"]


def test_transports_without_sockets_hold_no_connection(watched_httpx):
    async def main():
        transport = httpx.ASGITransport(app=answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as made:
            kept = await made.send(made.build_request("GET", "/"), stream=True)
            assert slots(watched_httpx) == []
            return await kept.aread()

    assert asyncio.run(main()) == b"asgi"
    with httpx.Client(transport=httpx.WSGITransport(app=answer_by_wsgi), base_url="http://app") as made:
        assert made.get("/").text == "wsgi"
    assert watched_httpx.held == []


def test_mounted_transports_are_watched_as_the_clients_own(watched_httpx, threaded_site):
    with client(threaded_site, mounts={"http://127.0.0.1": httpx.HTTPTransport()}) as made:
        made.get("/small")
        [handle] = sessions(watched_httpx)
        assert len(list(handle.descriptors())) == 1
        response = made.send(made.build_request("GET", "/large"), stream=True)
        assert list(handle.descriptors()) == []
        assert len(slots(watched_httpx)) == 1
        response.close()
    assert watched_httpx.held == []


def test_a_client_of_a_closed_loop_is_told(watched_httpx, threaded_site):
    kept = []

    async def main():
        kept.append(httpx.AsyncClient())
        await kept[0].get(threaded_site.url + "/small")

    asyncio.run(main())
    watched_httpx.settle()
    assert watched_httpx.verdicts == [("http.session", "loop_closed")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept.clear()
        collect()


def test_what_is_never_awaited_is_told_of_under_its_own_name(watched_httpx):
    async def main():
        made = httpx.AsyncClient()
        with hearing() as caught:
            made.get("http://127.0.0.1:1/")
            made.aclose()
            collect()
        assert len(sessions(watched_httpx)) == 1
        await made.aclose()
        return sorted(str(one.message) for one in caught)

    assert asyncio.run(main()) == [
        "coroutine 'AsyncClient.aclose' was never awaited",
        "coroutine 'AsyncClient.get' was never awaited",
    ]


def test_a_thousand_clean_requests_report_nothing(watched_httpx, with_client):
    async def fetch(made, number):
        with tracer.start_as_current_span("request"):
            async with made.stream("GET", "/redirect" if number % 10 == 0 else "/small") as response:
                return len(await response.aread())

    async def main(made):
        for batch in range(10):
            await asyncio.gather(*(fetch(made, number) for number in range(50)))
            watched_httpx.pass_time(1 + batch)
        await in_a_task(fetch, made, 1)
        assert slots(watched_httpx) == []
        watched_httpx.settle()

    with_client(main, limits=httpx.Limits(max_connections=10))
    watched_httpx.settle()
    assert watched_httpx.verdicts == []
    assert watched_httpx.held == []

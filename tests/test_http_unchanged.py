"""Each program runs once without and once with HTTP clients watched, and has to see the same."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import weakref

import httpx
import pytest
import requests
import urllib3
from garbage import collect, hearing

from crawlo_otel_leaks.instrumentation.httpx import HttpxInstrumentor
from crawlo_otel_leaks.instrumentation.requests import RequestsInstrumentor
from crawlo_otel_leaks.instrumentation.urllib3 import Urllib3Instrumentor

pytest_plugins = ["thread_site"]


def outcome(call):
    """What a call gives, its exception's kinds and cause included."""
    try:
        return type(call()).__name__
    except Exception as error:  # noqa: BLE001  (whatever it is, it has to be the same)
        return type(error).__mro__, type(error.__cause__), type(error.__context__)


def fail_in_every_way(url):
    with requests.Session() as session, httpx.Client() as client, urllib3.PoolManager(retries=False) as manager:
        return [
            outcome(call)
            for call in (
                lambda: session.get("http://127.0.0.1:1/"),
                lambda: session.get(url + "/silent", timeout=(30, 0.02)),
                lambda: session.get("no scheme"),
                lambda: session.get(url, no_such=1),
                lambda: client.get("http://127.0.0.1:1/"),
                lambda: client.get(url + "/silent", timeout=httpx.Timeout(30, read=0.02)),
                lambda: client.get(url + "/cut"),
                lambda: client.get("no scheme"),
                lambda: client.get(url, no_such=1),
                lambda: manager.request("GET", "http://127.0.0.1:1/"),
                lambda: manager.request("GET", url + "/silent", timeout=urllib3.Timeout(connect=30, read=0.02)),
                lambda: manager.request("GET", url, no_such=1),
                lambda: requests.Session(1),
                lambda: httpx.Client(no_such=1),
                lambda: httpx.AsyncClient(no_such=1),
            )
        ]


def fail_in_every_way_of_asyncio(url):
    async def told(request):
        try:
            return type(await request).__name__
        except BaseException as error:  # noqa: BLE001  (as above)
            return type(error).__mro__, type(error.__cause__)

    async def main():
        async with httpx.AsyncClient() as client:
            return [
                await told(client.get("http://127.0.0.1:1/")),
                await told(client.get(url + "/silent", timeout=httpx.Timeout(30, read=0.02))),
                await told(client.get(url + "/cut")),
                await told(asyncio.wait_for(client.get(url + "/silent"), 0.02)),
                await told(client.get(url + "/small")),
                outcome(client.get),
                outcome(client.send),
            ]

    return asyncio.run(main())


def die_by_reference_count(url):
    collect()
    gc.disable()
    try:
        session, manager, client = requests.Session(), urllib3.PoolManager(), httpx.Client()
        response = manager.request("GET", url + "/large", preload_content=False)
        pool = manager.connection_from_url(url)
        refs = [weakref.ref(one) for one in (session, manager, response, pool, client)]
        del session, manager, response, pool, client
        return [ref() is None for ref in refs]
    finally:
        gc.enable()


def use_after_close(url):
    client = httpx.Client()
    client.close()
    session = requests.Session()
    session.close()
    return outcome(lambda: client.get(url)), session.get(url + "/small").text, client.is_closed


def look_at_what_is_public(url):
    with requests.Session() as session:
        copy = pickle.loads(pickle.dumps(session))
    return (
        type(copy),
        [str(inspect.signature(one)) for one in (requests.Session, httpx.Client, httpx.AsyncClient.get)],
        [inspect.iscoroutinefunction(one) for one in (httpx.AsyncClient.get, httpx.AsyncClient.aclose)],
        [one.__qualname__ for one in (httpx.AsyncClient.send, requests.Session.close, urllib3.PoolManager.clear)],
    )


def warn(url):
    with hearing() as caught:
        httpx.Client().get(url + "/small")
        requests.Session().get(url + "/small")
        httpx.AsyncClient().get(url)
        collect()
    return sorted((one.category.__name__, str(one.message).partition(" fd=")[0]) for one in caught)


@pytest.mark.parametrize(
    "program",
    [
        fail_in_every_way,
        fail_in_every_way_of_asyncio,
        die_by_reference_count,
        use_after_close,
        look_at_what_is_public,
        warn,
    ],
)
def test_the_program_sees_no_difference(rig, threaded_site, program):
    watching = [HttpxInstrumentor(), RequestsInstrumentor(), Urllib3Instrumentor()]
    plain = program(threaded_site.url)
    assert plain
    for one in watching:
        one.instrument()
    try:
        assert program(threaded_site.url) == plain
    finally:
        for one in watching:
            one.uninstrument()

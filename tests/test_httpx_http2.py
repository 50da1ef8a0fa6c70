"""Several requests on one connection of HTTP/2, each with a place of its own."""

from __future__ import annotations

import httpx
import pytest
from garbage import collect
from http_steps import DROPPED, LEAK, in_a_request, slots

pytest_plugins = ["http2_site", "httpx_clients"]


@pytest.fixture
def made(watched_httpx, http2_site):
    options = {"http1": False, "http2": True, "trust_env": False}
    with httpx.Client(base_url=http2_site.url, limits=httpx.Limits(max_connections=1), **options) as client:
        yield client


def ask(made):
    return made.send(made.build_request("GET", "/endless"), stream=True)


def test_of_two_streams_the_forgotten_one_is_told(watched_httpx, http2_site, made):
    _, forgotten = in_a_request(ask, made)
    with made.stream("GET", "/endless") as read:
        chunks = read.iter_raw()
        for _ in range(30):
            assert next(chunks)
            assert made.get("/small").text == "small"
            watched_httpx.pass_time(1)
    assert http2_site.accepted == 1
    assert watched_httpx.verdicts == [LEAK]
    forgotten.close()
    assert slots(watched_httpx) == []


def test_streams_that_are_closed_or_dropped(watched_httpx, made):
    in_a_request(ask, made)[1].close()
    assert slots(watched_httpx) == []
    in_a_request(ask, made)
    collect()
    watched_httpx.settle()
    assert watched_httpx.verdicts == [DROPPED]


def test_one_connection_is_counted_once_among_its_holders(watched_httpx, made):
    kept = [ask(made) for _ in range(3)]
    [pool] = watched_httpx.runtime.pools
    assert len(pool.held) == 3
    assert len(next(iter(pool.held)).watch.holding(pool)) == 1
    for response in kept:
        response.close()

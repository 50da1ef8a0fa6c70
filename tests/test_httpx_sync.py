"""Connections that responses of httpx's Client hold."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from garbage import collect
from http_steps import DROPPED, LEAK, in_a_request, released, slots, tracer, wait_for_buffers
from httpx_steps import client, pool

pytest_plugins = ["thread_site", "httpx_clients"]


def read(made):
    assert made.get("/small").text == "small"


def leave_block_unread(made):
    with made.stream("GET", "/large"):
        pass


def leave_half_read(made):
    with made.stream("GET", "/large") as response:
        next(response.iter_bytes(1024))


def read_what_closes_itself(made):
    with made.stream("GET", "/closing") as response:
        response.read()


def follow_redirect(made):
    assert made.get("/redirect", follow_redirects=True).history


def time_out_waiting(made):
    with pytest.raises(httpx.TimeoutException):
        made.get("/silent", timeout=0.05)


def time_out_reading(made):
    with pytest.raises(httpx.TimeoutException), made.stream("GET", "/stalled", timeout=0.05) as response:
        response.read()


def be_cut(made):
    with pytest.raises(httpx.RemoteProtocolError):
        made.get("/cut")


def be_refused(made):
    with pytest.raises(httpx.ConnectError):
        made.get("http://127.0.0.1:1/")


def send_a_generator(made):
    assert made.post("/", content=(b"part" for _ in range(3))).text == "small"


def use_the_module(made):
    assert httpx.get(str(made.base_url) + "/small").text == "small"
    with httpx.stream("GET", str(made.base_url) + "/large"):
        pass


WAYS = [
    read,
    leave_block_unread,
    leave_half_read,
    read_what_closes_itself,
    follow_redirect,
    time_out_waiting,
    time_out_reading,
    be_cut,
    be_refused,
    send_a_generator,
    use_the_module,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_of_a_request_gives_the_connection_back(watched_httpx, threaded_site, way):
    with client(threaded_site) as made:
        for _ in range(2):
            in_a_request(way, made)
        assert slots(watched_httpx) == []
        assert not pool(made)._requests
        watched_httpx.settle()
    collect()
    watched_httpx.settle()
    assert watched_httpx.verdicts == []
    assert watched_httpx.held == []
    assert len(released(watched_httpx)) >= 2


def ask(made, path):
    return made.send(made.build_request("GET", path), stream=True)


def test_an_unread_response_is_told_once_in_the_span_and_at_the_line_of_who_asked(
    watched_httpx, threaded_site, telemetry
):
    with client(threaded_site) as made:
        span, response = in_a_request(ask, made, "/large")
        wait_for_buffers(watched_httpx)
        watched_httpx.settle()
        response.close()
        watched_httpx.pass_time(1)
    assert watched_httpx.verdicts == [LEAK]
    leak = watched_httpx.recorder.opened_leaks[0]
    assert leak.where.text == 'return made.send(made.build_request("GET", path), stream=True)'
    assert telemetry.spans("leak http.connection")[0].parent.span_id == span.get_span_context().span_id
    assert watched_httpx.recorder.resolved_leaks


def test_a_response_being_read_elsewhere_is_in_use(watched_httpx, threaded_site):
    with client(threaded_site) as made:
        _, response = in_a_request(ask, made, "/large")
        chunks = response.iter_raw()
        for _ in range(30):
            assert next(chunks)
            watched_httpx.pass_time(1)
        response.close()
    assert watched_httpx.verdicts == []


def test_dropped_responses_are_abandoned_and_the_next_one_is_told(watched_httpx, threaded_site):
    with client(threaded_site, limits=httpx.Limits(max_connections=2)) as made:
        for _ in range(2):
            in_a_request(ask, made, "/large")
        collect()
        with pytest.raises(httpx.PoolTimeout) as caught:
            made.get("/small", timeout=httpx.Timeout(5, pool=0.01))
        watched_httpx.settle()
    assert watched_httpx.verdicts == [DROPPED] * 2
    [note] = caught.value.__notes__
    assert note.startswith("2 of 2 connections of pool httpx held: 2 since")


def test_an_iterator_that_is_dropped_closes_its_response(watched_httpx, threaded_site):
    def peek(made):
        with made.stream("GET", "/large") as response:
            return next(iter(response.iter_raw()))

    with client(threaded_site) as made:
        in_a_request(peek, made)
        collect()
        assert slots(watched_httpx) == []
    watched_httpx.settle()
    assert watched_httpx.verdicts == []


def test_threads_that_share_a_client_leak_nothing(watched_httpx, threaded_site):
    """Among threads httpcore sometimes reads what it closed itself: such a request fails, and gives its place back."""
    failures = httpx.ReadError, httpx.TimeoutException

    def job(number):
        with tracer.start_as_current_span("job"), contextlib.suppress(*failures):
            if number % 5 == 0:
                with contextlib.suppress(httpx.TimeoutException):
                    made.get("/stalled", timeout=httpx.Timeout(5, read=0.01))
            made.get("/small" if number % 2 else "/redirect", follow_redirects=True)

    with client(threaded_site, limits=httpx.Limits(max_connections=3)) as made:
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(job, range(50)))
        assert slots(watched_httpx) == []
    assert len(released(watched_httpx)) >= 50
    watched_httpx.settle()
    assert watched_httpx.verdicts == []


def test_through_a_proxy_the_origin_is_named(watched_httpx, threaded_site):
    """The site answers what it is asked for by its full address too."""
    option = "proxies" if httpx.__version__ < "0.26" else "proxy"
    with client(threaded_site, **{option: threaded_site.url}) as made:
        response = made.send(made.build_request("GET", "http://example.test/large"), stream=True)
        [handle] = slots(watched_httpx)
        assert handle.name == "http://example.test:80"
        assert len(list(handle.descriptors())) == 1
        response.close()
        assert slots(watched_httpx) == []

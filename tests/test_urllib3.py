"""Connections out of urllib3's pools."""

from __future__ import annotations

import contextlib

import pytest
import urllib3
from garbage import collect
from http_steps import DROPPED, LEAK, in_a_request, released, sessions, slots, tracer, wait_for_buffers
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.urllib3 import Urllib3Instrumentor

pytest_plugins = ["thread_site"]


@pytest.fixture(params=["alone", "contrib first", "contrib last"])
def watched_urllib3(request, rig):
    """With and without contrib's instrumentation of the same library, in both orders."""
    ours, theirs = Urllib3Instrumentor(), URLLib3Instrumentor()
    order = {"alone": [ours], "contrib first": [theirs, ours], "contrib last": [ours, theirs]}[request.param]
    for one in order:
        one.instrument()
    rig.runtime.tick()
    yield rig
    for one in reversed(order):
        one.uninstrument()


@pytest.fixture(params=[False, True], ids=["unbounded", "blocking"])
def manager(request, watched_urllib3):
    with urllib3.PoolManager(maxsize=2, block=request.param, retries=False) as made:
        yield made


# What gives the connection back, each in a way of its own.


def preload(manager, url):
    assert manager.request("GET", url + "/small").data == b"small"


def read_to_the_end(manager, url):
    response = manager.request("GET", url + "/large", preload_content=False)
    while response.read(1 << 20):
        pass


def stream_to_the_end(manager, url):
    for _ in manager.request("GET", url + "/large", preload_content=False).stream():
        pass


def drain(manager, url):
    manager.request("GET", url + "/small", preload_content=False).drain_conn()


def give_back_unread(manager, url):
    response = manager.request("GET", url + "/large", preload_content=False)
    response.close()
    response.release_conn()


def read_what_closes_itself(manager, url):
    manager.request("GET", url + "/closing", preload_content=False).read()


def follow_redirect(manager, url):
    response = manager.request("GET", url + "/redirect", retries=2, preload_content=False)
    assert response.read() == b"small"


def retry_by_status(manager, url):
    retries = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        manager.request("GET", url + "/unavailable", retries=retries, preload_content=False)


def retry_what_is_cut(manager, url):
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        manager.request("GET", url + "/cut", retries=urllib3.Retry(2, backoff_factor=0))


def time_out_waiting(manager, url):
    with pytest.raises(urllib3.exceptions.TimeoutError):
        manager.request("GET", url + "/silent", timeout=0.05)


def time_out_reading(manager, url):
    with pytest.raises(urllib3.exceptions.TimeoutError):
        manager.request("GET", url + "/stalled", timeout=0.05, preload_content=False).read()


def read_what_is_short(manager, url):
    response = manager.request("GET", url + "/short", preload_content=False)
    with contextlib.suppress(urllib3.exceptions.ProtocolError):
        response.read()


def be_refused(manager, url):
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        manager.request("GET", "http://127.0.0.1:1/")


def send_a_generator(manager, url):
    body = (b"part" for _ in range(3))
    assert manager.request("POST", url + "/", body=body, chunked=True).data == b"small"


def fail_in_the_generator(manager, url):
    def body():
        yield b"part"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  (our own)
        manager.request("POST", url + "/", body=body(), chunked=True)


WAYS = [
    preload,
    read_to_the_end,
    stream_to_the_end,
    drain,
    give_back_unread,
    read_what_closes_itself,
    follow_redirect,
    retry_by_status,
    retry_what_is_cut,
    time_out_waiting,
    time_out_reading,
    read_what_is_short,
    be_refused,
    send_a_generator,
    fail_in_the_generator,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_of_a_request_gives_the_connection_back(watched_urllib3, threaded_site, manager, way):
    for _ in range(3):
        in_a_request(way, manager, threaded_site.url)
    assert slots(watched_urllib3) == []
    collect()
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == []
    assert len(released(watched_urllib3)) >= 3


def ask(manager, url):
    return manager.request("GET", url, preload_content=False)


def test_an_unread_response_is_told_once_in_the_span_and_at_the_line_of_who_asked(
    watched_urllib3, threaded_site, manager, telemetry
):
    span, response = in_a_request(ask, manager, threaded_site.url + "/large?token=secret")
    wait_for_buffers(watched_urllib3)
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == [LEAK]
    leak = watched_urllib3.recorder.opened_leaks[0]
    assert leak.where.text == 'return manager.request("GET", url, preload_content=False)'
    assert leak.name == threaded_site.url
    assert len(leak.holds) == 1
    assert telemetry.spans("leak http.connection")[0].parent.span_id == span.get_span_context().span_id
    response.close()
    response.release_conn()
    watched_urllib3.pass_time(1)
    assert watched_urllib3.recorder.resolved_leaks


@pytest.mark.parametrize("page", ["/large", "/closing", "/stalled"])
def test_a_response_that_is_dropped_unread_is_abandoned(watched_urllib3, threaded_site, manager, page):
    in_a_request(ask, manager, threaded_site.url + page)
    collect()
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == [DROPPED]


def test_closing_the_response_is_enough_unless_the_pool_blocks(watched_urllib3, threaded_site, manager):
    def close(manager, url):
        with ask(manager, url):
            pass

    in_a_request(close, manager, threaded_site.url + "/large")
    collect()
    watched_urllib3.settle()
    blocks = manager.connection_from_url(threaded_site.url).block
    assert watched_urllib3.verdicts == ([LEAK] if blocks else [])
    manager.connection_from_url(threaded_site.url).close()
    assert slots(watched_urllib3) == []


def test_a_response_being_read_elsewhere_is_in_use(watched_urllib3, threaded_site, manager):
    _, response = in_a_request(ask, manager, threaded_site.url + "/large")
    for _ in range(30):
        assert response.read(4096)
        watched_urllib3.pass_time(1)
    assert watched_urllib3.verdicts == []
    response.drain_conn()


def test_a_response_can_be_adopted(watched_urllib3, threaded_site, manager):
    _, kept = in_a_request(ask, manager, threaded_site.url + "/large")
    adopt(kept)
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == []
    kept.drain_conn()


def test_a_full_pool_that_discards_a_connection_leaks_none(watched_urllib3, threaded_site):
    with urllib3.PoolManager(maxsize=1) as manager:
        responses = [ask(manager, threaded_site.url + "/small") for _ in range(5)]
        assert len(slots(watched_urllib3)) == 5
        for response in responses:
            response.drain_conn()
        assert slots(watched_urllib3) == []
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == []


def test_whom_a_blocking_pool_has_none_left_for_is_told_who_holds_them(watched_urllib3, threaded_site, telemetry):
    pool = urllib3.HTTPConnectionPool(*threaded_site.server_address, maxsize=2, block=True)
    kept = [pool.urlopen("GET", "/large", preload_content=False) for _ in range(2)]
    with tracer.start_as_current_span("waiter"), pytest.raises(urllib3.exceptions.EmptyPoolError) as caught:
        pool.urlopen("GET", "/small", pool_timeout=0.01)
    [note] = caught.value.__notes__
    assert note.startswith(f"2 of 2 connections of pool {threaded_site.url} held: 2 since")
    assert "test_urllib3.py" in note
    watched_urllib3.runtime.tick()
    assert telemetry.events("crawlo.pool.exhausted")
    points = {name: points for name, points in telemetry.metrics().items() if name.startswith("db.client")}
    assert not {name for name, ours in points.items() for one in ours if threaded_site.url in one.attributes.values()}
    for response in kept:
        response.drain_conn()
    pool.close()


def test_what_a_blocking_pool_lost_stays_among_what_is_told(watched_urllib3, threaded_site):
    pool = urllib3.HTTPConnectionPool(*threaded_site.server_address, maxsize=1, block=True)
    in_a_request(lambda: pool.urlopen("GET", "/large", preload_content=False))
    collect()
    with pytest.raises(urllib3.exceptions.EmptyPoolError) as caught:
        pool.urlopen("GET", "/small", pool_timeout=0.01)
    assert caught.value.__notes__[0].startswith("1 of 1 connections")
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == [DROPPED]
    pool.close()


def test_managers_of_each_request_outlive_their_spans(watched_urllib3):
    kept = [in_a_request(urllib3.PoolManager)[1] for _ in range(3)]
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == [("http.session", "owner_finished")] * 3
    assert watched_urllib3.recorder.opened_leaks[0].name == "PoolManager"
    for manager in kept:
        manager.clear()
    assert sessions(watched_urllib3) == []


def test_one_manager_is_presumed_shared_and_a_dropped_one_costs_nothing(watched_urllib3, threaded_site):
    _, kept = in_a_request(urllib3.PoolManager)
    for _ in range(3):
        in_a_request(lambda: urllib3.PoolManager().request("GET", threaded_site.url + "/small"))
    collect()
    watched_urllib3.settle()
    assert watched_urllib3.verdicts == []
    assert [handle.referent() for handle in sessions(watched_urllib3)] == [kept]


def test_a_managers_idle_connections_are_its_own(watched_urllib3, threaded_site, manager):
    preload(manager, threaded_site.url)
    [handle] = sessions(watched_urllib3)
    assert len(list(handle.descriptors())) == 1
    response = ask(manager, threaded_site.url + "/large")
    [slot] = slots(watched_urllib3)
    assert list(handle.descriptors()) == []
    assert len(list(slot.descriptors())) == 1
    response.drain_conn()

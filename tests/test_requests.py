"""Sessions of requests, and what its streamed responses hold of urllib3's pools."""

from __future__ import annotations

import contextlib
import importlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import urllib3
from garbage import collect
from http_steps import DROPPED, LEAK, in_a_request, released, sessions, slots, tracer, wait_for_buffers
from opentelemetry.instrumentation.requests import RequestsInstrumentor as Contrib

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.requests import RequestsInstrumentor
from crawlo_otel_leaks.instrumentation.urllib3 import Urllib3Instrumentor

pytest_plugins = ["thread_site"]


@pytest.fixture(params=["alone", "contrib first", "contrib last"])
def watched_requests(request, rig):
    """With and without contrib's instrumentation of the same library, in both orders."""
    ours, theirs = [Urllib3Instrumentor(), RequestsInstrumentor()], [Contrib()]
    order = {"alone": ours, "contrib first": [*theirs, *ours], "contrib last": [*ours, *theirs]}[request.param]
    for one in order:
        one.instrument()
    rig.runtime.tick()
    yield rig
    for one in reversed(order):
        one.uninstrument()


@pytest.fixture(params=[False, True], ids=["unbounded", "blocking"])
def session(request, watched_requests):
    with requests.Session() as made:
        made.trust_env = False
        made.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=2, pool_block=request.param))
        yield made


def read(session, url):
    assert session.get(url + "/small").text == "small"


def read_streamed(session, url):
    assert session.get(url + "/large", stream=True).content


def iterate_to_the_end(session, url):
    for _ in session.get(url + "/large", stream=True).iter_content(1 << 20):
        pass


def close_unread(session, url):
    session.get(url + "/large", stream=True).close()


def leave_block_unread(session, url):
    with session.get(url + "/large", stream=True):
        pass


def leave_half_read(session, url):
    with session.get(url + "/large", stream=True) as response:
        next(response.iter_content(1024))


def follow_redirect(session, url):
    with session.get(url + "/redirect", stream=True) as response:
        assert response.history[0].status_code == 302


def raise_for_status(session, url):
    with pytest.raises(requests.HTTPError), session.get(url + "/broken", stream=True) as response:
        response.raise_for_status()


def time_out_waiting(session, url):
    with pytest.raises(requests.Timeout):
        session.get(url + "/silent", timeout=0.05)


def time_out_reading(session, url):
    with pytest.raises((requests.ConnectionError, requests.Timeout)):
        session.get(url + "/stalled", timeout=0.05)


def be_cut(session, url):
    with pytest.raises(requests.ConnectionError):
        session.get(url + "/cut")


def be_refused(session, url):
    with pytest.raises(requests.ConnectionError):
        session.get("http://127.0.0.1:1/")


def send_a_generator(session, url):
    assert session.post(url + "/", data=(b"part" for _ in range(3))).text == "small"


WAYS = [
    read,
    read_streamed,
    iterate_to_the_end,
    close_unread,
    leave_block_unread,
    leave_half_read,
    follow_redirect,
    raise_for_status,
    time_out_waiting,
    time_out_reading,
    be_cut,
    be_refused,
    send_a_generator,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_of_a_request_gives_the_connection_back(watched_requests, threaded_site, session, way):
    for _ in range(3):
        in_a_request(way, session, threaded_site.url)
    assert slots(watched_requests) == []
    collect()
    watched_requests.settle()
    assert watched_requests.verdicts == []
    assert len(released(watched_requests)) >= 3


def stream(session, url):
    return session.get(url, stream=True)


def test_an_unread_stream_is_told_once_in_the_span_and_at_the_line_of_who_asked(
    watched_requests, threaded_site, session, telemetry
):
    span, response = in_a_request(stream, session, threaded_site.url + "/large")
    wait_for_buffers(watched_requests)
    watched_requests.settle()
    assert watched_requests.verdicts == [LEAK]
    leak = watched_requests.recorder.opened_leaks[0]
    assert leak.where.text == "return session.get(url, stream=True)"
    assert telemetry.spans("leak http.connection")[0].parent.span_id == span.get_span_context().span_id
    response.close()
    watched_requests.pass_time(1)
    assert watched_requests.recorder.resolved_leaks


def test_a_stream_that_is_dropped_unread_is_abandoned(watched_requests, threaded_site, session):
    in_a_request(stream, session, threaded_site.url + "/large")
    collect()
    watched_requests.settle()
    assert watched_requests.verdicts == [DROPPED]
    assert watched_requests.recorder.opened_leaks[0].where.text == "return session.get(url, stream=True)"


def test_a_stream_of_the_module_outlives_its_session_and_is_told(watched_requests, threaded_site):
    _, response = in_a_request(lambda: requests.get(threaded_site.url + "/large", stream=True, timeout=10))
    wait_for_buffers(watched_requests)
    watched_requests.settle()
    assert watched_requests.verdicts == [LEAK]
    response.close()


def test_a_stream_can_be_adopted(watched_requests, threaded_site, session):
    _, response = in_a_request(stream, session, threaded_site.url + "/large")
    adopt(response)
    wait_for_buffers(watched_requests)
    watched_requests.settle()
    assert watched_requests.verdicts == []
    response.close()


def test_calls_of_the_module_are_no_sessions(watched_requests, threaded_site):
    for _ in range(3):
        in_a_request(lambda: requests.get(threaded_site.url + "/small", timeout=10))
    watched_requests.settle()
    assert released(watched_requests, "http.session") == []
    assert watched_requests.held == []
    assert watched_requests.verdicts == []


def make(kept):
    kept.append(requests.Session())
    return kept[-1]


def test_sessions_made_per_request_and_kept_outlive_their_spans(watched_requests):
    kept = []
    for _ in range(3):
        in_a_request(make, kept)
    watched_requests.settle()
    assert watched_requests.verdicts == [("http.session", "owner_finished")] * 3
    leak = watched_requests.recorder.opened_leaks[0]
    assert (leak.name, leak.where.text) == ("Session", "kept.append(requests.Session())")
    for one in kept:
        one.close()
    watched_requests.pass_time(1)
    assert len(watched_requests.recorder.resolved_leaks) == 3


def test_sessions_that_are_closed_dropped_or_shared_are_no_leak(watched_requests, threaded_site):
    for _ in range(3):
        in_a_request(make, [])[1].close()
        in_a_request(lambda: requests.Session().get(threaded_site.url + "/small"))
    shared = [requests.session() for _ in range(2)]
    for _ in range(3):
        for one in shared:
            in_a_request(read, one, threaded_site.url)
        watched_requests.pass_time(1)
    collect()
    watched_requests.settle()
    assert watched_requests.verdicts == []
    assert {handle.referent() for handle in sessions(watched_requests)} == set(shared)


def test_a_session_that_is_left_to_the_exit_costs_nothing(watched_requests, threaded_site):
    kept = in_a_request(make, [])[1], in_a_request(urllib3.PoolManager)[1]
    read(kept[0], threaded_site.url)
    assert len(sessions(watched_requests)) == 2
    watched_requests.runtime.detector.finish(exiting=True)
    assert watched_requests.verdicts == []


class Api(requests.Session):
    """As programs derive it."""

    def __init__(self):
        super().__init__()
        self.headers["X-Api"] = "1"


def test_a_subclass_is_located_where_it_is_made(watched_requests):
    _, kept = in_a_request(Api)
    [handle] = sessions(watched_requests)
    assert handle.name == "Api"
    assert handle.site.frames[0][0].co_name == "in_a_request"
    kept.close()
    assert sessions(watched_requests) == []


def test_what_another_library_makes_for_itself_is_its_own(watched_requests, tmp_path, monkeypatch):
    vendor = tmp_path / "site-packages" / "vendor.py"
    vendor.parent.mkdir()
    vendor.write_text(
        "import requests, urllib3\n"
        "class Client:\n"
        "    def __init__(self):\n"
        "        self.session, self.manager = requests.Session(), urllib3.PoolManager()\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(vendor.parent))
    module = importlib.import_module("vendor")
    kept = [in_a_request(module.Client)[1] for _ in range(3)]
    watched_requests.settle()
    assert watched_requests.verdicts == []
    assert {handle.name for handle in sessions(watched_requests)} == {"Session", "PoolManager"}
    assert len(kept) == 3


def test_threads_that_share_a_session_leak_nothing(watched_requests, threaded_site, session):
    def job(number):
        with tracer.start_as_current_span("job"):
            if number % 5 == 0:
                with contextlib.suppress(requests.RequestException):
                    session.get(threaded_site.url + "/stalled", timeout=0.01)
            elif number % 2:
                return session.get(threaded_site.url + "/redirect").text
            with session.get(threaded_site.url + "/small", stream=True) as response:
                return response.text

    with ThreadPoolExecutor(8) as executor:
        assert set(executor.map(job, range(50))) == {"small"}
    assert slots(watched_requests) == []
    watched_requests.settle()
    assert watched_requests.verdicts == []


def test_who_waits_long_for_a_blocking_pool_is_told_who_holds_it(watched_requests, threaded_site, telemetry):
    """requests waits for ever there: no exception would ever say it."""
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True))
        response = stream(session, threaded_site.url + "/large")
        waiter = threading.Thread(target=read, args=(session, threaded_site.url))
        waiter.start()
        while not any(pool.waiting for pool in watched_requests.runtime.pools):
            pass
        watched_requests.pass_time(6)
        response.close()
        waiter.join()
    [event] = telemetry.events("crawlo.pool.exhausted")
    assert "test_requests.py" in event.attributes["crawlo.pool.holders"][0]
    assert (event.attributes["crawlo.pool.held"], event.attributes["crawlo.pool.limit"]) == (1, 1)

from __future__ import annotations

import socket
import sys

import pytest
from conftest import watching
from socket_steps import library, listening, tracer

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor

ABANDONED = ("socket", "abandoned")
FINISHED = ("socket", "owner_finished")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")


@pytest.fixture
def watched(rig):
    """Sockets are watched."""
    with watching(rig, SocketsInstrumentor()):
        yield rig


@pytest.fixture
def server(watched):
    """A socket that listens, made under watch."""
    with listening() as made:
        yield made


@pytest.fixture
def address(server):
    return server.getsockname()


def connect(address):
    return socket.create_connection(address)


def in_a_request(address, count, work=connect):
    """Each in a span of its own, as a server handles a request."""
    made = []
    for _ in range(count):
        with tracer.start_as_current_span("request"):
            made.append(work(address))
    return made


@LINUX
def test_two_of_a_line_that_outlive_their_requests_are_leaks(watched, address):
    made = in_a_request(address, 2)
    watched.settle()
    assert watched.verdicts == [FINISHED, FINISHED]
    for one in made:
        one.close()


def test_those_that_are_closed_are_none(watched, address):
    for one in in_a_request(address, 2):
        one.close()
    watched.settle()
    assert watched.verdicts == []


def test_one_of_a_line_is_presumed_to_be_shared(watched, address):
    (made,) = in_a_request(address, 1)
    watched.settle()
    assert watched.verdicts == []
    made.close()


@LINUX
def test_bytes_that_arrive_are_use(watched, server, address):
    made = in_a_request(address, 2)
    taken = [server.accept()[0] for _ in made]
    for _ in range(10):
        for one in taken:
            one.sendall(b"x")
        watched.pass_time(8.0, steps=8)
    assert watched.verdicts == []
    for one in (*made, *taken):
        one.close()


def datagrams(_address):
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def test_where_use_cannot_be_seen_only_a_crowd_is_evidence(watched, address):
    made = []
    for count, leaks in ((4, 0), (1, 5)):
        made += in_a_request(address, count, datagrams)
        watched.settle()
        assert watched.verdicts == [FINISHED] * leaks
    for one in made:
        one.close()


def test_what_listens_is_in_use(watched, address):
    made = in_a_request(address, 2, lambda _: listening())
    watched.settle()
    assert watched.verdicts == []
    for one in made:
        one.close()


@LINUX
def test_what_the_peer_hung_up_and_nobody_closes_is_held_too_long(watched, server, address):
    made = [connect(address) for _ in range(2)]
    for _ in made:
        server.accept()[0].close()
    watched.pass_time(290.0, steps=10)
    assert watched.verdicts == []
    watched.pass_time(60.0, steps=10)
    assert watched.verdicts == [("socket", "held_too_long")] * 2
    for one in made:
        one.close()


@LINUX
def test_what_is_still_connected_may_idle_for_ever(watched, server, address):
    made = [connect(address) for _ in range(2)]
    taken = [server.accept()[0] for _ in made]
    watched.pass_time(5000.0, steps=50)
    assert watched.verdicts == []
    for one in (*made, *taken):
        one.close()


def test_what_a_scope_leaves_open_is_its_leak(watched):
    with scope("job"):
        made = [socket.socket(), adopt(socket.socket())]
        socket.socket().close()
    watched.settle()
    assert watched.verdicts == [("socket", "scope_end")]
    for one in made:
        one.close()


@pytest.mark.parametrize(("hidden", "expected"), [(False, [ABANDONED]), (True, [])])
def test_how_long_a_librarys_own_lives_is_the_librarys_affair(watched, address, tmp_path, hidden, expected):
    """Dropped, it is a leak all the same, unless the library's own handles tell of that."""
    client = library("someclient", "import socket\ndef connect(a): return socket.create_connection(a)", tmp_path)
    if hidden:
        watched.runtime.tracker.sites.hide("someclient")
    with scope("job"):
        made = in_a_request(address, 2, client.connect)
    watched.settle()
    assert watched.verdicts == []
    made.pop().close()
    with pytest.warns(ResourceWarning):
        made.clear()
    watched.settle()
    assert watched.verdicts == expected


@LINUX
@pytest.mark.parametrize("count", [1, 2])
def test_what_a_library_keeps_for_its_next_use_may_have_been_hung_up(watched, server, address, tmp_path, count):
    """And so may the only one that the program keeps of a line."""
    client = library("someclient", "import socket\ndef connect(a): return socket.create_connection(a)", tmp_path)
    made = [client.connect(address) for _ in range(count)] if count > 1 else [connect(address)]
    for _ in made:
        server.accept()[0].close()
    watched.pass_time(1000.0, steps=50)
    assert watched.verdicts == []
    for one in made:
        one.close()

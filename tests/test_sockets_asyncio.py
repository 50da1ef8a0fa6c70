from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from conftest import watching
from garbage import collect
from socket_steps import HERE, names, sockets, tracer
from stream_steps import KEPT, answer, ask, forget, start, tcp, until

from crawlo_otel_leaks import scope
from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor

uvloop = pytest.importorskip("uvloop")
ABANDONED = ("socket", "abandoned")


@pytest.fixture
def watched(rig):
    """Sockets and tasks are watched."""
    with watching(rig, SocketsInstrumentor(), TasksInstrumentor()):
        yield rig
        KEPT.clear()


async def clean(watched):
    server, address = await start(answer)
    for _ in range(3):
        with tracer.start_as_current_span("request"):
            _, writer = await ask(address)
            writer.close()
            await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await until(lambda: not watched.runtime.tick() and tcp(watched) == [])


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("debug", [False, True])
def test_of_a_clean_server_and_client_nothing_is_left(watched, new_loop, debug):
    loop = new_loop()
    loop.set_debug(debug)
    loop.run_until_complete(clean(watched))
    loop.close()
    collect()
    watched.settle()
    assert watched.verdicts == []
    assert watched.held == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_transport_that_is_dropped_with_its_loop_is_abandoned(watched):
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((HERE, 0))

    async def connect(loop):
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=receiver.getsockname())

    def leave(loop):
        loop.run_until_complete(connect(loop))
        loop.close()

    leave(asyncio.new_event_loop())
    collect()
    watched.runtime.tick()
    (leak,) = watched.recorder.opened_leaks
    assert (leak.kind, leak.reason.value) == ABANDONED
    assert leak.name.startswith("udp ")
    receiver.close()


def test_one_that_was_told_to_close_is_not_though_its_loop_never_came_to_it(watched):
    async def work():
        server, address = await start(forget)
        _, writer = await ask(address)
        await until(lambda: len(sockets(watched)) == 3)
        server.close()
        return writer

    loop = asyncio.new_event_loop()
    for writer in (loop.run_until_complete(work()), *KEPT):
        writer.close()
    loop.close()
    del writer
    KEPT.clear()
    assert len(sockets(watched)) == 2
    watched.settle()
    collect()
    watched.settle()
    assert watched.verdicts == []
    assert sockets(watched) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_open_when_its_loop_is_closed_is_told(watched, new_loop):
    kept = []

    async def work():
        server, address = await start(answer)
        kept.append(await ask(address))
        server.close()
        await server.wait_closed()

    loop = new_loop()
    loop.run_until_complete(work())
    assert len(tcp(watched)) == 1
    loop.close()
    watched.settle()
    # libuv closes with its loop all that is open.
    assert watched.verdicts == ([("socket", "loop_closed")] if new_loop is asyncio.new_event_loop else [])
    assert len(tcp(watched)) == len(watched.verdicts)
    kept.clear()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_server_that_nobody_closes_is_the_scopes_leak(watched, new_loop):
    async def work():
        with scope("job"):
            server, _ = await start(answer)
        watched.settle()
        assert watched.verdicts == [("socket", "scope_end")]
        assert [one.label() for one in tcp(watched)] == [watched.recorder.opened_leaks[0].name]
        server.close()
        await server.wait_closed()

    loop = new_loop()
    loop.run_until_complete(work())
    loop.close()


def test_a_loops_own_pair_is_no_handle(watched):
    loop = asyncio.new_event_loop()
    assert names(watched) == []
    loop.close()


def test_below_tls_the_socket_is_told_to_close_with_what_is_above(watched, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def work():
        server, address = await start(answer)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.TimeoutError)):
            await asyncio.open_connection(*address, ssl=context, server_hostname="localhost", ssl_handshake_timeout=0.1)
        server.close()

    asyncio.run(work())
    collect()
    watched.settle()
    assert watched.verdicts == []

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
import time

import pytest
from socket_steps import HERE, names, sockets, tracer

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.instrumentation._makers import Maker
from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor

uvloop = pytest.importorskip("uvloop")
ABANDONED = ("socket", "abandoned")
WRITERS = hasattr(asyncio.StreamWriter, "__del__")


@pytest.fixture
def watched(rig):
    """Sockets and tasks are watched."""
    SocketsInstrumentor().instrument()
    TasksInstrumentor().instrument()
    yield rig
    TasksInstrumentor().uninstrument()
    SocketsInstrumentor().uninstrument()


async def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.001)


async def answer(reader, writer):
    """Handle a connection as it should be."""
    writer.write(await reader.read(1))
    writer.close()


async def forget(reader, writer):
    """Handle a connection, and leave it open."""
    writer.write(await reader.read(1))


async def start(handler):
    server = await asyncio.start_server(handler, HERE, 0)
    return server, server.sockets[0].getsockname()


async def ask(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    return reader, writer


def tcp(watched):
    """The loop of uvloop has a pair of sockets too."""
    return [one for one in watched.held if one.label().startswith("tcp")]


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
    gc.collect()
    watched.settle()
    assert watched.verdicts == []
    assert watched.held == []


def test_what_a_server_accepts_is_told_of_where_it_was_started(watched):
    async def work():
        server, address = await start(forget)
        _, writer = await ask(address)
        await until(lambda: len(sockets(watched)) == 3)
        (taken,) = [one for one in sockets(watched) if one.accepted]
        assert taken.site.frames[0][0] is start.__code__
        assert taken.span is None
        writer.close()
        server.close()

    asyncio.run(work())


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_a_handler_that_forgets_to_close_is_found_once_its_peer_has_hung_up(watched):
    kept = []

    async def keep(reader, writer):
        await forget(reader, writer)
        kept.append(writer)

    async def work(handler):
        server, address = await start(handler)
        for _ in range(2):
            _, writer = await ask(address)
            writer.close()
            await writer.wait_closed()
        await until(
            lambda: handler is answer or all(writer.transport._protocol._stream_reader.at_eof() for writer in kept)
        )
        watched.pass_time(1000.0, steps=50)
        server.close()
        for writer in kept:
            writer.close()

    asyncio.run(work(answer))
    assert watched.verdicts == []
    asyncio.run(work(keep))
    assert watched.verdicts == [("socket", "held_too_long")] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_not_while_it_is_still_at_work(watched):
    async def slow(reader, writer):
        await reader.read(1)
        writer.write(b"x")
        await asyncio.Event().wait()

    async def work():
        server, address = await start(slow)
        _, writer = await ask(address)
        writer.close()
        await asyncio.sleep(0.05)
        watched.pass_time(1000.0, steps=50)
        server.close()

    asyncio.run(work())
    assert "held_too_long" not in dict(watched.verdicts).values()


@pytest.mark.skipif(not WRITERS, reason="this Python does not notice")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_stream_writer_that_is_dropped_is_abandoned(watched, new_loop):
    async def work():
        server, address = await start(answer)
        reader, writer = await ask(address)
        del reader, writer
        gc.collect()
        server.close()
        await asyncio.sleep(0.01)

    loop = new_loop()
    loop.run_until_complete(work())
    loop.close()
    watched.runtime.tick()
    (leak,) = watched.recorder.opened_leaks
    assert (leak.reason.value, leak.where.function) == ("abandoned", "ask")
    assert leak.name.startswith(f"tcp {HERE}:")


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
    gc.collect()
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
        for one in sockets(watched):
            if one.transport() is not None:
                one.transport().close()
        server.close()
        del writer

    loop = asyncio.new_event_loop()
    handle = loop.run_until_complete  # no further step of the loop after the last
    handle(work())
    loop.close()
    watched.settle()
    gc.collect()
    watched.settle()
    assert watched.verdicts == []


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


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_stream_writer_may_be_adopted(watched, new_loop):
    async def work():
        server, address = await start(answer)
        reader, writer = await ask(address)
        adopt(writer)
        assert [one.process for one in tcp(watched)].count(True) == 1
        writer.close()
        server.close()
        del reader

    loop = new_loop()
    loop.run_until_complete(work())
    loop.close()


def test_a_connection_that_somebody_awaits_is_in_use(watched):
    async def work():
        server, address = await start(forget)
        with tracer.start_as_current_span("request"):
            kept = [await ask(address) for _ in range(2)]
        waiting = [asyncio.ensure_future(reader.read(1)) for reader, _ in kept]
        await asyncio.sleep(0)
        watched.settle()
        assert watched.verdicts == []
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        watched.settle()
        assert watched.verdicts == [("socket", "owner_finished")] * 2
        for _, writer in kept:
            writer.close()
        server.close()

    asyncio.run(work())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_a_task_of_asyncios_opens_is_whose_had_it_made(watched, new_loop):
    """Up to Python 3.11, `wait_for` makes a task."""

    async def request(address):
        return await asyncio.create_task(asyncio.open_connection(*address))

    async def work():
        server, address = await start(answer)
        _, writer = await asyncio.create_task(request(address))
        (made,) = [one for one in tcp(watched) if one.site.frames[0][0] is request.__code__]
        assert made.made_by is Maker.PROGRAM
        assert made.task_name.startswith("Task-")
        writer.close()
        server.close()

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
        server, address = await start(forget)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.TimeoutError)):
            await asyncio.open_connection(*address, ssl=context, server_hostname="localhost", ssl_handshake_timeout=0.1)
        server.close()

    asyncio.run(work())
    gc.collect()
    watched.settle()
    assert watched.verdicts == []

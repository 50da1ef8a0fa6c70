from __future__ import annotations

import asyncio
import sys

import pytest
from conftest import watching
from garbage import collect
from socket_steps import HERE, sockets, tracer
from stream_steps import KEPT, answer, ask, forget, start, tcp, until

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation._makers import Maker
from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor

uvloop = pytest.importorskip("uvloop")
WRITERS = hasattr(asyncio.StreamWriter, "__del__")


@pytest.fixture
def watched(rig):
    """Sockets and tasks are watched."""
    with watching(rig, SocketsInstrumentor(), TasksInstrumentor()):
        yield rig
        KEPT.clear()


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
    async def work(handler):
        server, address = await start(handler)
        for _ in range(2):
            _, writer = await ask(address)
            writer.close()
            await writer.wait_closed()
        await until(lambda: handler is answer or all(writer._reader.at_eof() for writer in KEPT))
        watched.pass_time(1000.0, steps=50)
        server.close()
        for writer in KEPT:
            writer.close()

    asyncio.run(work(answer))
    assert watched.verdicts == []
    asyncio.run(work(forget))
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
        collect()
        server.close()
        await asyncio.sleep(0.01)

    loop = new_loop()
    loop.run_until_complete(work())
    loop.close()
    watched.runtime.tick()
    (leak,) = watched.recorder.opened_leaks
    assert (leak.reason.value, leak.where.function) == ("abandoned", "ask")
    assert leak.name.startswith(f"tcp {HERE}:")


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

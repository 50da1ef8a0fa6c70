"""Connections that responses of httpx's AsyncClient hold."""

from __future__ import annotations

import asyncio

import anyio
import httpx
import pytest
from garbage import collect
from http_steps import DROPPED, LEAK, in_a_task, released, slots, tracer, until, wait_for_buffers
from httpx_steps import ask, cancelled, pool

from crawlo_otel_leaks import adopt

pytest_plugins = ["thread_site", "httpx_clients"]


async def read(made):
    assert (await made.get("/small")).text == "small"


async def read_streamed(made):
    async with made.stream("GET", "/large") as response:
        assert len(await response.aread()) == int(response.headers["Content-Length"])


async def leave_block_unread(made):
    async with made.stream("GET", "/large"):
        pass


async def leave_half_read(made):
    async with made.stream("GET", "/large") as response:
        async for _ in response.aiter_bytes(1024):
            break


async def close_unread(made):
    await (await ask(made, "/large")).aclose()


async def follow_redirect(made):
    response = await made.get("/redirect", follow_redirects=True)
    assert response.history[0].status_code == 302


async def raise_for_status(made):
    async with made.stream("GET", "/broken") as response:
        with pytest.raises(httpx.HTTPStatusError):
            response.raise_for_status()


async def time_out_waiting(made):
    with pytest.raises(httpx.TimeoutException):
        await made.get("/silent", timeout=0.05)


async def time_out_reading(made):
    with pytest.raises(httpx.TimeoutException):
        await made.get("/stalled", timeout=0.05)


async def time_out_around(made):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(made.get("/stalled"), 0.05)


async def move_on_by_scope(made):
    with anyio.move_on_after(0.05) as scope:
        async with made.stream("GET", "/stalled") as response:
            await response.aread()
    assert scope.cancel_called


async def be_cancelled_waiting(made):
    task = asyncio.ensure_future(made.get("/silent"))
    await until(lambda: any(each.connection for each in pool(made)._requests))
    await asyncio.sleep(0.02)
    await cancelled(task)


async def never_start(made):
    await cancelled(asyncio.ensure_future(made.get("/small")))


async def be_cut(made):
    with pytest.raises(httpx.RemoteProtocolError):
        await made.get("/cut")


async def be_refused(made):
    with pytest.raises(httpx.ConnectError):
        await made.get("http://127.0.0.1:1/")


async def send_a_generator(made):
    async def body():
        yield b"part"
        yield b"part"

    assert (await made.post("/", content=body())).text == "small"


async def fail_in_the_generator(made):
    async def body():
        yield b"part"
        raise KeyError

    with pytest.raises(KeyError):
        await made.post("/", content=body())


WAYS = [
    read,
    read_streamed,
    leave_block_unread,
    leave_half_read,
    close_unread,
    follow_redirect,
    raise_for_status,
    time_out_waiting,
    time_out_reading,
    time_out_around,
    move_on_by_scope,
    be_cancelled_waiting,
    never_start,
    be_cut,
    be_refused,
    send_a_generator,
    fail_in_the_generator,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_of_a_request_gives_the_connection_back(watched_httpx, with_client, way):
    async def main(made):
        for _ in range(2):
            await in_a_task(way, made)
        await until(lambda: not pool(made)._requests)
        assert slots(watched_httpx) == []
        watched_httpx.settle()

    with_client(main)
    collect()
    watched_httpx.settle()
    assert watched_httpx.verdicts == []
    assert bool(released(watched_httpx)) is (way is not never_start)


def test_an_unread_response_is_told_once_in_the_span_and_at_the_line_of_who_asked(
    watched_httpx, with_client, telemetry
):
    async def main(made):
        span, response = await in_a_task(ask, made, "/large?token=secret")
        wait_for_buffers(watched_httpx)
        watched_httpx.settle()
        await response.aclose()
        watched_httpx.pass_time(1)
        return span, str(made.base_url)

    span, url = with_client(main)
    assert watched_httpx.verdicts == [LEAK]
    leak = watched_httpx.recorder.opened_leaks[0]
    assert leak.where.text == 'return await made.send(made.build_request("GET", path), stream=True)'
    assert leak.name == url.rstrip("/")
    assert len(leak.holds) == 1
    assert telemetry.spans("leak http.connection")[0].parent.span_id == span.get_span_context().span_id
    assert watched_httpx.recorder.resolved_leaks


def test_a_response_that_is_dropped_unread_is_abandoned_and_its_pool_stays_charged(watched_httpx, with_client):
    async def main(made):
        await in_a_task(ask, made, "/large")
        await asyncio.sleep(0)  # until then the loop has the task that has it
        collect()
        watched_httpx.settle()
        with pytest.raises(httpx.PoolTimeout) as caught:
            await made.get("/small", timeout=httpx.Timeout(5, pool=0.01))
        return caught.value

    error = with_client(main, limits=httpx.Limits(max_connections=1))
    assert watched_httpx.verdicts == [DROPPED]
    [note] = error.__notes__
    assert note.startswith("1 of 1 connections of pool httpx held: 1 since")
    assert "httpx_steps.py" in note


def test_whom_the_pool_has_none_left_for_is_told_who_holds_them(watched_httpx, with_client, telemetry):
    async def main(made):
        kept = [await in_a_task(ask, made, "/large") for _ in range(2)]
        with tracer.start_as_current_span("waiter"), pytest.raises(httpx.PoolTimeout) as caught:
            await made.get("/small", timeout=httpx.Timeout(5, pool=0.01))
        watched_httpx.runtime.tick()
        for _, response in kept:
            await response.aclose()
        await read(made)
        return caught.value

    error = with_client(main, limits=httpx.Limits(max_connections=2))
    assert [note[:36] for note in error.__notes__] == ["2 of 2 connections of pool httpx hel"]
    [event] = telemetry.events("crawlo.pool.exhausted")
    assert event.attributes["crawlo.pool.held"] == 2
    watched_httpx.settle()
    assert watched_httpx.verdicts == []


def test_a_slow_server_keeps_nobody_waiting_for_the_pool(watched_httpx, with_client, telemetry):
    async def main(made):
        task = asyncio.ensure_future(made.get("/silent"))
        await until(lambda: slots(watched_httpx))
        watched_httpx.pass_time(100)
        await cancelled(task)

    with_client(main)
    assert telemetry.events("crawlo.pool.exhausted") == []


def test_calls_that_are_made_tasks_of_belong_to_who_made_them(watched_httpx, with_client):
    async def gather(made):
        return await asyncio.gather(*(made.send(made.build_request("GET", "/large"), stream=True) for _ in range(2)))

    async def main(made):
        span, responses = await in_a_task(gather, made)
        held = slots(watched_httpx)
        assert {handle.site.frames[0][0].co_name for handle in held} <= {"gather", "<genexpr>"}
        assert [handle.span.get_span_context() for handle in held] == [span.get_span_context()] * 2
        for response in responses:
            await response.aclose()

    with_client(main)


def test_many_gathered_in_one_open_span_and_read_later_are_no_leak(watched_httpx, with_client):
    async def main(made):
        with tracer.start_as_current_span("crawl"):
            responses = await asyncio.gather(*(ask(made, "/large") for _ in range(5)))
            watched_httpx.settle()
            assert len(slots(watched_httpx)) == 5
            for response in responses:
                await response.aread()
        watched_httpx.settle()
        assert slots(watched_httpx) == []

    with_client(main)
    assert watched_httpx.verdicts == []


def test_a_response_can_be_adopted(watched_httpx, with_client):
    async def main(made):
        _, response = await in_a_task(ask, made, "/large")
        adopt(response)
        wait_for_buffers(watched_httpx)
        watched_httpx.settle()
        await response.aclose()

    with_client(main)
    assert watched_httpx.verdicts == []


def test_closing_the_client_gives_back_what_is_out(watched_httpx, with_client):
    kept = []

    async def main(made):
        kept.extend([await in_a_task(ask, made, "/large") for _ in range(3)])

    with_client(main)
    assert watched_httpx.held == []
    watched_httpx.settle()
    assert watched_httpx.verdicts == []

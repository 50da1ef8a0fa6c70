"""What httpx's AsyncClient leaves behind when a request is cancelled at a bad moment."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from http_steps import LEAK, in_a_task, slots, until
from httpx_steps import cancelled, pool

pytest_plugins = ["thread_site", "httpx_clients"]


async def cut_off(made):
    """httpcore #1093: cancelled while it waits, it is given the place of one that is cancelled too."""
    tasks = [asyncio.ensure_future(made.get("/small")) for _ in range(2)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def cut_off_twice(made):
    """httpx #3782: cancelled again while it closes its response."""

    async def consume():
        async with made.stream("GET", "/stalled") as response:
            await response.aread()

    task = asyncio.ensure_future(consume())
    await until(lambda: any(each.connection for each in pool(made)._requests))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.sleep(0)
    await cancelled(task)


@pytest.mark.parametrize("way", [cut_off, cut_off_twice])
def test_a_connection_left_to_nobody_by_a_cancelled_request_is_told(watched_httpx, with_client, way):
    """Its pool keeps it for ever, unless the library is a release that knows better."""

    async def main(made):
        await in_a_task(way, made)
        lost = any(not connection.is_idle() for connection in pool(made).connections)
        watched_httpx.settle()
        if lost:
            with pytest.raises(httpx.PoolTimeout) as caught:
                await made.get("/small", timeout=httpx.Timeout(5, pool=0.01))
            assert caught.value.__notes__[0].startswith("1 of 1 connections")
        return lost

    lost = with_client(main, limits=httpx.Limits(max_connections=1))
    assert watched_httpx.verdicts == ([LEAK] if lost else [])
    assert slots(watched_httpx) == []


def test_what_was_left_to_nobody_is_released_once_its_pool_is_rid_of_it(watched_httpx, with_client):
    async def main(made):
        await in_a_task(cut_off, made)
        if not pool(made).connections:
            pytest.skip("this httpcore leaves none")
        [handle] = slots(watched_httpx)
        getattr(pool(made), "_connections" if hasattr(pool(made), "_connections") else "_pool").clear()
        watched_httpx.pass_time(3, steps=3)
        assert handle.released_at is not None

    with_client(main, limits=httpx.Limits(max_connections=1))
    assert watched_httpx.verdicts == []

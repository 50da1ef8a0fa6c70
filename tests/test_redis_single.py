"""Clients of redis-py and valkey-py that keep one connection for themselves: they are judged as sessions are."""

from __future__ import annotations

import asyncio

import pytest
from redis_clients import LEAKED

pytest_plugins = ["redis_clients"]


@pytest.fixture(params=["constructor", "client()"])
def make(request, client, package, where):
    if request.param == "client()":
        return client.client
    return lambda: package.client(where, single_connection_client=True)


def test_the_only_one_of_its_line_is_shared_by_design_and_may_grow_old(rig, make, tracer):
    with tracer.start_as_current_span("startup"):
        kept = make()
    rig.pass_time(1000, steps=100)
    assert rig.verdicts == []
    assert len(rig.held) == 1
    kept.close()
    rig.pass_time(1)
    assert rig.held == []


def test_one_in_each_job_that_is_never_closed_is_a_leak(rig, make, tracer):
    def work():
        kept.append(make())
        kept[-1].get("key")

    kept = []
    for _ in range(3):
        with tracer.start_as_current_span("job"):
            work()
    rig.settle()
    assert rig.verdicts == [LEAKED] * 3
    assert "kept.append(make())" in [frame.text for frame in rig.recorder.opened_leaks[0].stack]
    for one in kept:
        one.close()
    rig.pass_time(1)
    assert (len(rig.recorder.resolved_leaks), rig.held) == (3, [])


def test_those_that_others_use_are_shared(rig, make, tracer):
    with tracer.start_as_current_span("startup"):
        kept = [make() for _ in range(3)]
    for _ in range(3):
        rig.pass_time(8, steps=8)
        for one in kept:
            one.get("key")
    rig.pass_time(1000, steps=100)
    assert rig.verdicts == []
    for one in kept:
        one.close()


def test_an_async_one_may_grow_old(rig, package, where, tracer):
    async def main():
        with tracer.start_as_current_span("startup"):
            client = package.async_client(where, single_connection_client=True)
            await client.get("key")
        rig.pass_time(1000, steps=100)
        assert len(rig.held) == 1
        await client.aclose()

    asyncio.run(main())
    rig.pass_time(1)
    assert (rig.verdicts, rig.held) == ([], [])


def test_an_async_one_in_each_job_is_a_leak_until_it_is_closed(rig, package, where, tracer):
    async def work():
        with tracer.start_as_current_span("job"):
            client = package.async_client(where, single_connection_client=True)
            await client.get("key")
            return client

    async def main():
        kept = await asyncio.gather(*(work() for _ in range(3)))
        rig.settle()
        assert rig.verdicts == [LEAKED] * 3
        for one in kept:
            await one.aclose()

    asyncio.run(main())
    assert rig.recorder.opened_leaks[0].where.text == 'await client.get("key")'
    rig.pass_time(1)
    assert (len(rig.recorder.resolved_leaks), rig.held) == (3, [])

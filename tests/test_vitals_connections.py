"""Connections explain the descriptors of their sockets, as far as their libraries show them."""

from __future__ import annotations

import asyncio
import importlib
import socket

import pytest
import servers

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import _descriptors
from crawlo_otel_leaks.instrumentation.redis import RedisInstrumentor, ValkeyInstrumentor
from crawlo_otel_leaks.vitals import INTERVAL

pytest_plugins = ["local_site"]


COMMAND = {"redis": (), "valkey": ("GET",)}
"""What a pool wants to know of whoever asks for a connection."""


def explained(rig):
    return rig.runtime.vitals._explained()


def test_a_response_that_holds_its_connection_explains_a_socket(watched, with_session):
    rig = watched

    async def work(_site, session):
        response = await session.get("/large")
        (number,) = explained(rig)
        assert rig.runtime.vitals._descriptors()[number].type == "socket"
        response.close()
        assert explained(rig) == set()

    with_session(work)


def test_an_open_session_explains_the_connections_that_it_keeps(watched, with_session):
    rig = watched

    async def work(_site, session):
        for _ in range(2):
            async with session.get("/small") as response:
                await response.read()
        assert len(explained(rig)) == 1
        rig.pass_time(INTERVAL)
        # What else there is beside the loop is the server's: it listens, and has accepted.
        assert rig.runtime.vitals.numbers[semconv.METRIC_FD_UNATTRIBUTED] == 2
        await session.close()
        assert explained(rig) == set()

    with_session(work)


@pytest.fixture(params=[("redis", RedisInstrumentor, "Redis"), ("valkey", ValkeyInstrumentor, "Valkey")])
def library(request, rig):
    name, instrumentor, client = request.param
    instrumentor().instrument()
    yield name, client
    instrumentor().uninstrument()


def test_a_redis_connection_explains_its_socket_while_it_is_out(rig, library):
    name, client = library
    host, port = servers.valkey()
    made = getattr(importlib.import_module(name), client)(host=host, port=port)
    pool = made.connection_pool
    connection = pool.get_connection(*COMMAND[name])
    assert explained(rig) == {connection._sock.fileno()}
    pool.release(connection)
    assert explained(rig) == set()
    made.close()
    pool.disconnect()


def test_an_async_redis_connection_explains_its_socket_while_it_is_out(rig, library):
    name, client = library
    host, port = servers.valkey()

    async def main():
        made = getattr(importlib.import_module(f"{name}.asyncio"), client)(host=host, port=port)
        pool = made.connection_pool
        connection = await pool.get_connection(*COMMAND[name])
        transport = connection._writer.transport
        assert explained(rig) == {transport.get_extra_info("socket").fileno()}
        await pool.release(connection)
        assert explained(rig) == set()
        await pool.disconnect()
        await made.aclose()

    asyncio.run(main())


def test_what_has_no_descriptor_or_none_any_more_explains_none():
    with socket.socket() as one:
        assert _descriptors.of(one) == (one.fileno(),)
    assert _descriptors.of(one) == _descriptors.of(None) == _descriptors.of(object()) == ()

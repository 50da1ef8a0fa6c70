"""Servers and clients of asyncio's streams, for tests of the sockets below."""

from __future__ import annotations

import asyncio
import time

from socket_steps import HERE

KEPT = []
"""Writers that a handler forgot to close."""


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
    """Handle a connection, and leave it open; a writer that is dropped is closed by asyncio."""
    KEPT.append(writer)
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

"""Servers and clients of asyncio's streams, on its own loop and on uvloop, with debug mode off and on."""

from __future__ import annotations

import asyncio
import contextlib

import uvloop
from opentelemetry import trace

SERVER = ""
REQUESTS = 10_000
KEPT_ALIVE = 4
"""Requests of one connection."""
ABREAST = 50
tracer = trace.get_tracer("soak")


def serve(_url: str) -> None:
    for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        for debug in (False, True):
            loop = new_loop()
            loop.set_debug(debug)
            loop.slow_callback_duration = 10.0
            loop.run_until_complete(work())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


async def work():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    async with server:
        for _ in range(0, REQUESTS, ABREAST * KEPT_ALIVE):
            await asyncio.gather(*(client(address) for _ in range(ABREAST)))


async def handle(reader, writer):
    with contextlib.closing(writer):
        while line := await reader.readline():
            with tracer.start_as_current_span("answer"):
                writer.write(line)
                await writer.drain()


async def client(address):
    with tracer.start_as_current_span("ask"):
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*address), 60)
        for _ in range(KEPT_ALIVE):
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()

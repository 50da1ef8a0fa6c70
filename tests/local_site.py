"""A real aiohttp server on 127.0.0.1, in the test's own loop, and aiohttp's client under watch."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

LARGE = bytes(8 * 1024 * 1024)
"""Fits in no buffer on the way, so that who does not read it holds the connection."""


class LocalSite:
    """Its pages; `proceed` lets those go on that wait for it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.proceed = asyncio.Event()

    async def small(self, _request: web.Request) -> web.Response:
        return web.Response(text="small")

    async def large(self, _request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    async def silent(self, _request: web.Request) -> web.Response:
        """Never answer."""
        await self.proceed.wait()
        return web.Response(text="late")

    async def stalled(self, request: web.Request) -> web.StreamResponse:
        """Answer half, and the rest when told to proceed."""
        response = web.StreamResponse(headers={"Content-Length": "8"})
        await response.prepare(request)
        await response.write(b"half")
        await self.proceed.wait()
        await response.write(b"rest")
        return response

    async def dripping(self, request: web.Request) -> web.StreamResponse:
        """Answer one byte each time it is told to proceed, ten times."""
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        for _ in range(10):
            await self.proceed.wait()
            self.proceed.clear()
            await response.write(b"x")
        return response

    async def redirect(self, _request: web.Request) -> web.Response:
        raise web.HTTPFound("/small", text="moved")

    async def broken(self, _request: web.Request) -> web.Response:
        return web.Response(status=500, body=LARGE)

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data)
        return websocket


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[LocalSite]:
    site = LocalSite("")
    application = web.Application()
    for name in ("small", "large", "silent", "stalled", "dripping", "redirect", "broken", "echo"):
        application.router.add_get(f"/{name}", getattr(site, name))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = "http://127.0.0.1:{1}".format(*runner.addresses[0])
    try:
        yield site
    finally:
        site.proceed.set()
        await runner.cleanup()


@contextlib.contextmanager
def instrumented(rig: Any) -> Iterator[Any]:
    """Have aiohttp's client instrumented, and the spans' starters noted."""
    AiohttpInstrumentor().instrument()
    rig.runtime.tick()
    yield rig
    AiohttpInstrumentor().uninstrument()


@pytest.fixture
def watched(rig: Any) -> Iterator[Any]:
    with instrumented(rig):
        yield rig


@pytest.fixture
def watching(rig: Any) -> contextlib.AbstractContextManager[Any]:
    """The same, when the test enters it."""
    return instrumented(rig)


@pytest.fixture(params=["contrib first", "contrib last"])
def watched_beside_contrib(request: pytest.FixtureRequest, rig: Any) -> Iterator[Any]:
    """Contrib's instrumentation of the same library too, in both orders."""
    both = [instrumented_by_contrib(), instrumented(rig)]
    with contextlib.ExitStack() as stack:
        for one in both if request.param == "contrib first" else reversed(both):
            stack.enter_context(one)
        yield rig


@contextlib.contextmanager
def instrumented_by_contrib() -> Iterator[None]:
    AioHttpClientInstrumentor().instrument()
    yield
    AioHttpClientInstrumentor().uninstrument()


@pytest.fixture
def visit() -> Callable[[Callable[[LocalSite], Awaitable[Any]]], Any]:
    """Run an async program against the site, in a loop of its own."""

    def run(program: Callable[[LocalSite], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with serving() as site:
                return await program(site)

        return asyncio.run(main())

    return run


@pytest.fixture
def with_session(visit: Any) -> Callable[[Callable[[LocalSite, aiohttp.ClientSession], Awaitable[Any]]], Any]:
    """Run a program that is given a session which is closed behind it."""

    def run(program: Callable[[LocalSite, aiohttp.ClientSession], Awaitable[Any]]) -> Any:
        async def main(site: LocalSite) -> Any:
            async with aiohttp.ClientSession(site.url) as session:
                return await program(site, session)

        return visit(main)

    return run

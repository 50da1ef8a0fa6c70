"""A local web site to crawl: small pages, and downloads too large for one buffer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGES = 12
_DOWNLOAD = b"\0" * 4_000_000


async def _page(request: web.Request) -> web.Response:
    return web.Response(text=f"<h1>Page {request.match_info['number']}</h1>", content_type="text/html")


async def _download(_request: web.Request) -> web.Response:
    return web.Response(body=_DOWNLOAD)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serve on a free local port while the context lasts; yield the site's address."""
    app = web.Application()
    app.add_routes([web.get("/page/{number}", _page), web.get("/download/{number}", _download)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()

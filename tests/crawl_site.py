"""A site to crawl, as a program of its own that prints its address: pages, and others that keep silent until told."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


class Site:
    def __init__(self):
        self.asked = 0
        self.proceed = asyncio.Event()

    async def page(self, request):
        number = request.match_info["number"]
        return web.Response(text=f"<title>page {number}</title>", content_type="text/html")

    async def silent(self, _request):
        self.asked += 1
        await self.proceed.wait()
        return web.Response(text="late")

    async def how_many(self, _request):
        """How many requests have been met with silence."""
        return web.Response(text=str(self.asked))

    async def hold(self, _request):
        self.asked = 0
        self.proceed.clear()
        return web.Response()

    async def go_on(self, _request):
        self.proceed.set()
        return web.Response()


async def main():
    site, application = Site(), web.Application()
    application.router.add_get("/page/{number}", site.page)
    application.router.add_get("/silent/{number}", site.silent)
    application.router.add_get("/asked", site.how_many)
    application.router.add_get("/hold", site.hold)
    application.router.add_get("/proceed", site.go_on)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write("http://127.0.0.1:{1}\n".format(*runner.addresses[0]))
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)  # until the pipe from whoever started it breaks


if __name__ == "__main__":
    asyncio.run(main())

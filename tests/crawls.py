"""Real crawls by the real Crawlo, of a site that a thread of the test process serves."""

from __future__ import annotations

import asyncio
import os
import threading
from importlib.metadata import version

import pytest
import spiders
from aiohttp import web
from crawlo.crawler import CrawlerProcess

from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor
from crawlo_otel_leaks.instrumentation.aiosqlite import AiosqliteInstrumentor
from crawlo_otel_leaks.instrumentation.asyncpg import AsyncpgInstrumentor
from crawlo_otel_leaks.instrumentation.crawlo import CrawloInstrumentor
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.instrumentation.redis import RedisInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor
from crawlo_otel_leaks.instrumentation.threads import ThreadsInstrumentor

try:
    from crawlo.core.application import initialize_framework
except ImportError:  # until 1.5
    from crawlo.initialization import initialize_framework

OLD = version("crawlo").startswith("1.4.")
INSTRUMENTORS = (
    FilesInstrumentor,
    AiohttpInstrumentor,
    ThreadsInstrumentor,
    TasksInstrumentor,
    AiosqliteInstrumentor,
    AsyncpgInstrumentor,
    RedisInstrumentor,
    CrawloInstrumentor,
)
SETTINGS = {
    "RUN_MODE": "standalone",
    "QUEUE_TYPE": "memory",
    "CONCURRENCY": 16,
    "DOWNLOAD_DELAY": 0,
    "RANDOMNESS": False,
    "DOWNLOADER": "crawlo.downloader.AioHttpDownloader",
    "LOG_LEVEL": "CRITICAL",
    "STATS_DUMP": False,
    "PIPELINES": {} if not OLD else [],
    "EXTENSIONS": [],
}
"""Quick and quiet: no search for a Redis, no delay between pages."""


class Site:
    """200 pages, and others that keep silent until they are told to proceed."""

    def __init__(self):
        self.url = ""
        self.asked = 0
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self):
        self._thread.start()
        self._ready.wait()
        return self

    def proceed(self):
        self.loop.call_soon_threadsafe(self._proceed.set)

    def hold(self):
        self.asked = 0
        self.loop.call_soon_threadsafe(self._proceed.clear)

    def _serve(self):
        self.loop.run_until_complete(self._set_up())
        self.loop.run_forever()

    async def _set_up(self):
        self._proceed = asyncio.Event()
        application = web.Application()
        application.router.add_get("/page/{number}", self._page)
        application.router.add_get("/silent/{number}", self._silent)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://127.0.0.1:{1}".format(*runner.addresses[0])
        self._ready.set()

    async def _page(self, request):
        return web.Response(text=f"<title>page {request.match_info['number']}</title>", content_type="text/html")

    async def _silent(self, _request):
        self.asked += 1
        await self._proceed.wait()
        return web.Response(text="late")


@pytest.fixture(scope="session")
def site():
    served = Site().start()
    before, os.environ[spiders.SITE] = os.environ.get(spiders.SITE), served.url
    yield served
    if before is None:
        del os.environ[spiders.SITE]
    served.loop.call_soon_threadsafe(served.loop.stop)


@pytest.fixture
def crawling(rig, site):
    """Crawlo, and what it stands on, is watched."""
    for instrumentor in INSTRUMENTORS:
        instrumentor().instrument()
    rig.runtime.tick()
    yield rig
    spiders.kept.clear()
    for instrumentor in INSTRUMENTORS:
        instrumentor().uninstrument()


async def crawl(spider, **settings):
    """Crawl once, as a program does."""
    chosen = initialize_framework()
    chosen = chosen.copy() if chosen else chosen
    chosen.update_attributes({**SETTINGS, **settings})
    return await CrawlerProcess(settings=chosen).crawl(spider)


async def failing(spider, **settings):
    """The same, of a run that fails."""
    with pytest.raises(RuntimeError):
        await crawl(spider, **settings)

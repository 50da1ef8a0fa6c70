"""Real crawls by the real Crawlo, of a site that another process serves."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pkgutil
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
import spiders
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
NEW = version("crawlo").startswith("1.7.")
SOCKETS = "crawlo_otel_leaks.instrumentation.sockets"
PATIENCE = 20.0
"""Seconds after which something that a test waits for will never come."""
INSTRUMENTORS = (
    FilesInstrumentor,
    AiohttpInstrumentor,
    ThreadsInstrumentor,
    TasksInstrumentor,
    AiosqliteInstrumentor,
    AsyncpgInstrumentor,
    RedisInstrumentor,
    CrawloInstrumentor,
    *([pkgutil.resolve_name(f"{SOCKETS}:SocketsInstrumentor")] if importlib.util.find_spec(SOCKETS) else []),
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
    """200 pages, and others that keep silent until they are told to proceed; in a process of its own."""

    def __init__(self):
        program = [sys.executable, str(Path(__file__).with_name("crawl_site.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(program, **pipes)
        self.url = self._process.stdout.readline().strip()

    def ask(self, what):
        with urllib.request.urlopen(f"{self.url}/{what}", timeout=10) as answer:
            return answer.read()

    @property
    def asked(self):
        return int(self.ask("asked"))

    def stop(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="session")
def crawl_site():
    served = Site()
    before, os.environ[spiders.SITE] = os.environ.get(spiders.SITE), served.url
    yield served
    os.environ.pop(spiders.SITE)
    if before is not None:
        os.environ[spiders.SITE] = before
    served.stop()


async def until_asked(site, number):
    """Let the crawl go on until so many of its requests have been met with silence."""
    end = time.monotonic() + PATIENCE
    while await asyncio.to_thread(lambda: site.asked) < number:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def until_busy(site):
    """Let the crawl go on until all that it has begun waits for the silent pages: nothing begins or ends any more."""
    await until_asked(site, 8)
    before, steady = 0, 0
    while steady < 50:
        await asyncio.sleep(0.01)
        now = len(asyncio.all_tasks())
        before, steady = now, steady + 1 if now == before else 0


@pytest.fixture
def crawling(rig, crawl_site):
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

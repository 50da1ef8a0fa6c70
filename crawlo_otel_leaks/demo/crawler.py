"""A small crawler with classic leaks, and its clean twin (--clean)."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import aiohttp
import asyncpg
from opentelemetry import trace
from redis.asyncio import Redis

from crawlo_otel_leaks.demo import careful, careless, servers, site

LAST = 2
tracer = trace.get_tracer("demo.crawler")


class Crawl(NamedTuple):
    """What one crawl works with."""

    base: str
    folder: Path
    session: aiohttp.ClientSession
    client: Redis
    pool: asyncpg.Pool
    clean: bool


async def crawl_page(crawl: Crawl, number: int) -> None:
    """Crawl one page in a span of its own."""
    steps = careful if crawl.clean else careless
    with tracer.start_as_current_span("crawl page", attributes={"page": number}):
        text = await steps.fetch(crawl.base, number)
        if number % 4 == 0:
            size = await steps.check(crawl.session, crawl.base, number)
            steps.note(crawl.folder, number, size)
            await steps.announce(crawl.client, number)
        await steps.save(crawl.pool, number, text)


async def crawl_some(crawl: Crawl, numbers: range) -> list[BaseException | None]:
    """Crawl pages side by side; return each one's failure, if it failed."""
    return await asyncio.gather(*(crawl_page(crawl, number) for number in numbers), return_exceptions=True)


async def opened(base: str, folder: str, *, clean: bool) -> Crawl:
    """Open what a crawl works with."""
    pool = await asyncpg.create_pool(os.environ[servers.POSTGRES_DSN], min_size=1, max_size=3)
    await pool.execute("CREATE TABLE pages (number int, text text)")
    client = Redis.from_url(os.environ[servers.REDIS_URL])
    return Crawl(base, Path(folder), aiohttp.ClientSession(), client, pool, clean)


async def close(crawl: Crawl) -> None:
    """Close what a crawl works with; a careless program leaves its databases to the end of the process."""
    await crawl.session.close()
    if crawl.clean:
        await crawl.client.aclose()
        await crawl.pool.close()


async def crawl_all(folder: str, *, clean: bool) -> None:
    """Crawl the whole site."""
    async with site.serving() as base:
        crawl = await opened(base, folder, clean=clean)
        # The last ones wait for the others: whichever is quickest, a careless crawl has no connection left for them.
        ends = [*await crawl_some(crawl, range(site.PAGES - LAST)), *await crawl_some(crawl, range(site.PAGES)[-LAST:])]
        failures = [error for error in ends if error is not None]
        print(f"crawled {site.PAGES} pages, {len(failures)} in vain", flush=True)
        for error in failures[:1]:
            print(f"the first: {error!r}", *getattr(error, "__notes__", []), sep="\n", flush=True)
        print("working on ...", flush=True)
        await asyncio.sleep(2.0)  # the service goes on, while what leaked stays open
        await close(crawl)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(crawl_all(folder, clean="--clean" in sys.argv[1:]))

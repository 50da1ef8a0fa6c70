"""A small crawler with four classic leaks, and its clean twin (--clean)."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import aiohttp
from opentelemetry import trace

from crawlo_otel_leaks.demo import site

tracer = trace.get_tracer("demo.crawler")
kept: list[object] = []  # what a careless program keeps: caches, globals, closures


async def fetch_leaky(base: str, number: int, folder: Path) -> None:
    """Fetch one page the careless way."""
    session = aiohttp.ClientSession()  # leak: a session per page, and nobody closes it
    kept.append(session)
    async with session.get(f"{base}/page/{number}") as response:
        text = await response.text()
    output = (folder / f"{number}.html").open("w", encoding="utf-8")  # leak: kept open
    output.write(text)
    kept.append(output)


async def check_leaky(session: aiohttp.ClientSession, base: str, number: int) -> int:
    """Ask for a download's size the careless way."""
    response = await session.get(f"{base}/download/{number}")  # leak: the body is never read, nor released
    kept.append(response)
    return response.content_length or 0


def note_leaky(folder: Path, size: int) -> None:
    """Note a size the careless way."""
    (folder / "sizes.txt").open("a", encoding="utf-8").write(f"{size}\n")  # leak: dropped without close


async def fetch_clean(session: aiohttp.ClientSession, base: str, number: int, folder: Path) -> None:
    """Fetch one page."""
    async with session.get(f"{base}/page/{number}") as response:
        text = await response.text()
    with (folder / f"{number}.html").open("w", encoding="utf-8") as output:
        output.write(text)


async def check_clean(session: aiohttp.ClientSession, base: str, number: int) -> int:
    """Ask for a download's size."""
    async with session.get(f"{base}/download/{number}") as response:
        return response.content_length or 0


def note_clean(folder: Path, size: int) -> None:
    """Note a size."""
    with (folder / "sizes.txt").open("a", encoding="utf-8") as notes:
        notes.write(f"{size}\n")


async def crawl_page(session: aiohttp.ClientSession, base: str, number: int, folder: Path, *, clean: bool) -> None:
    """Crawl one page in a span of its own."""
    with tracer.start_as_current_span("crawl page", attributes={"page": number}):
        if clean:
            await fetch_clean(session, base, number, folder)
        else:
            await fetch_leaky(base, number, folder)
        if number % 4 == 0:
            size = await (check_clean if clean else check_leaky)(session, base, number)
            (note_clean if clean else note_leaky)(folder, size)


async def crawl(folder: Path, *, clean: bool) -> None:
    """Crawl the whole site."""
    async with site.serving() as base, aiohttp.ClientSession() as session:
        pages = [crawl_page(session, base, number, folder, clean=clean) for number in range(site.PAGES)]
        await asyncio.gather(*pages)
        print(f"crawled {site.PAGES} pages of {base}; working on ...", flush=True)
        await asyncio.sleep(2.0)  # the service goes on, while what leaked stays open


def main() -> None:
    """Crawl, leaky or clean."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(crawl(Path(folder), clean="--clean" in sys.argv[1:]))


if __name__ == "__main__":
    main()

"""The crawler's steps as a careless programmer writes them: each leaks in a classic way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg
    from redis.asyncio import Redis

kept: list[object] = []  # what a careless program keeps: caches, globals, closures


async def fetch(base: str, number: int) -> str:
    """Fetch one page."""
    session = aiohttp.ClientSession()  # leak: a session per page, and nobody closes it
    kept.append(session)
    async with session.get(f"{base}/page/{number}") as response:
        return await response.text()


async def check(session: aiohttp.ClientSession, base: str, number: int) -> int:
    """Ask for a download's size."""
    response = await session.get(f"{base}/download/{number}")  # leak: the body is never read, nor released
    kept.append(response)
    return response.content_length or 0


def note(folder: Path, number: int, size: int) -> None:
    """Note a download's size."""
    output = (folder / f"{number}.size").open("w", encoding="utf-8")  # leak: kept open
    output.write(str(size))
    kept.append(output)
    (folder / "sizes.txt").open("a", encoding="utf-8").write(f"{size}\n")  # leak: dropped without close


async def announce(client: Redis, number: int) -> None:
    """Wait for whoever answers, and forget them."""
    listener = client.pubsub()
    await listener.subscribe(f"page:{number}")  # leak: a connection of its own, until it is closed
    kept.append(listener)


async def save(pool: asyncpg.Pool, number: int, text: str) -> None:
    """Store one page."""
    connection = await pool.acquire(timeout=1.0)  # leak: see the return below
    await connection.execute("INSERT INTO pages VALUES ($1, $2)", number, text)
    if number % 4 == 1:
        return  # an early return forgets the release
    await pool.release(connection)

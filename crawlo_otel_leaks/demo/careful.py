"""The crawler's steps as they should be: the clean twin of `careless`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg
    from redis.asyncio import Redis


async def fetch(base: str, number: int) -> str:
    """Fetch one page."""
    async with aiohttp.ClientSession() as session, session.get(f"{base}/page/{number}") as response:
        return await response.text()


async def check(session: aiohttp.ClientSession, base: str, number: int) -> int:
    """Ask for a download's size."""
    async with session.get(f"{base}/download/{number}") as response:
        return response.content_length or 0


def note(folder: Path, number: int, size: int) -> None:
    """Note a download's size."""
    (folder / f"{number}.size").write_text(str(size), encoding="utf-8")
    with (folder / "sizes.txt").open("a", encoding="utf-8") as notes:
        notes.write(f"{size}\n")


async def announce(client: Redis, number: int) -> None:
    """Wait for whoever answers."""
    async with client.pubsub() as listener:
        await listener.subscribe(f"page:{number}")


async def save(pool: asyncpg.Pool, number: int, text: str) -> None:
    """Store one page."""
    async with pool.acquire(timeout=5.0) as connection:
        await connection.execute("INSERT INTO pages VALUES ($1, $2)", number, text)

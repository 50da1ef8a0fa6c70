"""What the tests of httpx have in common."""

from __future__ import annotations

import asyncio
import contextlib

import httpx


@contextlib.contextmanager
def client(site, **options):
    with httpx.Client(base_url=site.url, trust_env=False, **options) as made:
        yield made


def pool(made):
    return made._transport._pool


async def ask(made, path):
    """A streamed response that its caller has to close."""
    return await made.send(made.build_request("GET", path), stream=True)


async def cancelled(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

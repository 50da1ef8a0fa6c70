"""The end of a run that takes too long: it is cancelled until it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
AGAIN: Final = 15.0
"""Seconds until a run that goes on is cancelled once more: Crawlo's orderly end may take two times 5."""


async def in_time(run: Coroutine[object, object, T], limit: float, again: float = AGAIN) -> T:
    """Return what `run` returns; after `limit` seconds cancel it, and every `again` seconds more until it ends.

    As `asyncio.wait_for` otherwise, which cancels once. That is not enough: until Python 3.12 its namesakes inside of
    the run lose a cancellation which comes as what they wait for is there (https://github.com/python/cpython/issues/86296).
    Raise `TimeoutError` of asyncio where the run was ended by this.
    """
    task = asyncio.ensure_future(run)
    over = False
    try:
        await asyncio.wait({task}, timeout=limit)
        over = not task.done()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=again)
    try:
        return task.result()
    except asyncio.CancelledError as error:
        if over:
            raise asyncio.TimeoutError from error
        raise

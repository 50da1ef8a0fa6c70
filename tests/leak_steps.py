"""Steps of tests of the leak detector."""

from __future__ import annotations

import asyncio


async def pending(count):
    """Return so many tasks that wait, and have begun to."""
    tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def cancelled(tasks):
    """Cancel tasks, and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def types(told):
    """What leaks, and how many of each."""
    return {leak["type"]: leak["growth"] for leak in told["potential_leaks"]}

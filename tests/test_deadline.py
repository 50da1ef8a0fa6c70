"""A run that takes too long ends, also where it loses a cancellation on its way."""

from __future__ import annotations

import asyncio

import pytest

from crawlo_otel_leaks.cli.deadline import in_time


async def until_cancelled(times: int, told: list[str], result: str | None = None) -> str:
    """End with the last of so many cancellations, and lose the others."""
    for left in reversed(range(times)):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            if not left and result is None:
                raise
    return result or ""


async def quick() -> str:
    return "done"


async def failing() -> None:
    raise RuntimeError("no such page")


def test_what_a_run_returns_in_time():
    assert asyncio.run(in_time(quick(), 60)) == "done"


def test_what_a_run_raises_in_time():
    with pytest.raises(RuntimeError, match="no such page"):
        asyncio.run(in_time(failing(), 60))


@pytest.mark.parametrize("times", [1, 3])
def test_a_run_that_takes_too_long_is_cancelled_until_it_ends(times):
    told: list[str] = []
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(in_time(until_cancelled(times, told), 0, again=0))
    assert told == ["cancelled"] * times


def test_a_run_that_ends_in_order_when_it_is_cancelled():
    assert asyncio.run(in_time(until_cancelled(2, [], result="closed"), 0, again=0)) == "closed"


def test_a_run_is_left_the_time_to_end_in_order():
    async def closing() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(5):
                await asyncio.sleep(0)
            return "closed"
        return "never"

    assert asyncio.run(in_time(closing(), 0, again=60)) == "closed"


@pytest.mark.parametrize("times", [1, 2])
def test_whoever_is_cancelled_cancels_the_run(times):
    told: list[str] = []

    async def outer() -> None:
        waiting = asyncio.ensure_future(in_time(until_cancelled(times, told), 60, again=0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(outer())
    assert told == ["cancelled"] * times


def test_a_run_that_cancels_itself_is_not_too_long():
    async def itself() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(in_time(itself(), 60))

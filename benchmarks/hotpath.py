"""One hot path: run so often, and then twice as often, with a mark between that a counter of instructions sees."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor

    Work = Callable[[int], object]
    """Does something so many times."""

DEPTH: Final = 20
LOOPS: Final = 512
"""Operations of the first round; a multiple of what lies between two whole stacks of a site."""
MARK: Final = "getppid"
"""A function of the C library that nothing else calls: its call is where one count ends and the next begins."""
SEGMENTS: Final = 5
"""Counts: untracked N times, 2 N times, what lies between, tracked N times, 2 N times."""


class HotPath(NamedTuple):
    """What an untracked process does, what a tracked one does, and who watches it."""

    plain: Work
    tracked: Work
    instrumentor: Instrumentor | None = None


def repeat(step: Callable[[], object]) -> Work:
    """Do a step so many times."""

    def work(loops: int) -> None:
        for _ in range(loops):
            step()

    return work


def repeat_on_loop(step: Callable[[], Any]) -> Work:
    """Await what a step returns so many times, on one event loop."""
    loop = asyncio.new_event_loop()

    async def work(loops: int) -> None:
        for _ in range(loops):
            await step()

    return lambda loops: loop.run_until_complete(work(loops))


def nothing() -> None:
    """Be what a part is compared with."""


def deep(depth: int, work: Work, loops: int) -> None:
    """Run the work at a stack depth as real programs have."""
    if depth:
        deep(depth - 1, work, loops)
    else:
        work(loops)


def count_from_here() -> None:
    """Have callgrind, whose process this is, count from now on: what comes before takes it a minute."""
    told = subprocess.Popen(["callgrind_control", "--instr=on", str(os.getpid())], stdout=subprocess.DEVNULL)
    while told.poll() is None:
        pass  # callgrind hears it while this runs: to be heard while this waits, it would have to be debugged
    if told.returncode:
        raise SystemExit("callgrind_control, found beside valgrind, does not reach the callgrind that is expected here")


def measure(work: Work) -> None:
    """Warm up, then run so many times, and then twice as many."""
    mark = getattr(os, MARK)
    deep(DEPTH, work, LOOPS)
    gc.collect()
    mark()
    deep(DEPTH, work, LOOPS)
    mark()
    deep(DEPTH, work, 2 * LOOPS)
    mark()

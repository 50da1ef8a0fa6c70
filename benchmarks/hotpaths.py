"""The hot paths, for `instructions.py` to count: no server, no clock, the detector at rest."""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dummypool import HotPool, Pool, PoolInstrumentor
from dummyslot import Client
from hotparts import PARTS, acquired
from hotpath import HotPath, count_from_here, measure, repeat, repeat_on_loop
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor
from crawlo_otel_leaks.instrumentation.threads import ThreadsInstrumentor
from crawlo_otel_leaks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.tracker import Tracker


def files(tracker: Tracker) -> HotPath:
    """Open a small file, read it, close it."""
    del tracker
    small = Path(tempfile.mkdtemp(), "small.txt")
    small.write_text("x" * 100, encoding="ascii")
    name = str(small)

    def step() -> None:
        with open(name, encoding="ascii") as file:  # noqa: PTH123  (builtins.open is what is watched)
            file.read()

    return HotPath(repeat(step), repeat(step), FilesInstrumentor())


def pool(tracker: Tracker) -> HotPath:
    """Take the connection, give it back."""
    del tracker
    one = Pool()
    work = repeat(lambda: one.give_back(one.take()))
    return HotPath(work, work, PoolInstrumentor())


def hot_pool(tracker: Tracker) -> HotPath:
    """Take the connection, give it back, by functions that stand in the class."""
    del tracker
    one = HotPool()
    work = repeat(lambda: one.give_back(one.take()))
    return HotPath(work, work, PoolInstrumentor())


def pool_async(tracker: Tracker) -> HotPath:
    """Take the connection, give it back."""
    del tracker
    one = Pool()

    async def step() -> None:
        await one.give_back_async(await one.take_async())

    work = repeat_on_loop(step)
    return HotPath(work, work, PoolInstrumentor())


def requests(tracker: Tracker) -> HotPath:
    """Ask an aiohttp session for a request, take a connector slot, give it back."""
    del tracker
    work = repeat_on_loop(Client().ask)
    return HotPath(work, work, AiohttpInstrumentor())


def tasks(tracker: Tracker) -> HotPath:
    """Make a task that does nothing, and await it."""
    del tracker

    async def nothing() -> None:
        pass

    work = repeat_on_loop(lambda: asyncio.create_task(nothing()))
    return HotPath(work, work, TasksInstrumentor())


def threads(tracker: Tracker) -> HotPath:
    """Start a thread that does nothing, and join it."""
    del tracker

    def step() -> None:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    return HotPath(repeat(step), repeat(step), ThreadsInstrumentor())


PATHS: Final[dict[str, Callable[[Tracker], HotPath]]] = {
    "file open + read + close": files,
    "pool take + give back": pool,
    "pool take + give back, direct": hot_pool,
    "pool take + give back, asyncio": pool_async,
    "aiohttp request + slot": requests,
    "create_task + await": tasks,
    "thread start + join": threads,
    "tracker acquire + release": acquired,
    **PARTS,
}


SUFFIX: Final = ", accelerated"
"""Of a path that is run with the accelerator."""
_FIRST: Final = ("file open", "aiohttp", "pool take + give back", "create_task", "tracker acquire")
ACCELERATED: Final = tuple(name + SUFFIX for name in PATHS if name.startswith(_FIRST) and "asyncio" not in name)
"""Paths that are run a second time where it is installed."""


def main() -> None:
    """Run one path, untracked and tracked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", choices=[*PATHS, *ACCELERATED])
    parser.add_argument("--level", default="sampled", choices=["sampled", "full"])
    parser.add_argument("--counted", action="store_true", help="this runs under callgrind, which does not count yet")
    arguments = parser.parse_args()
    trace.set_tracer_provider(TracerProvider())
    name = arguments.path.removesuffix(SUFFIX)
    settings = Settings(level=arguments.level, scan_interval=1e6, top=False, accelerator=name != arguments.path)
    running = runtime.start("hot paths", settings)
    assert running is not None
    assert (running.tracker.accelerator is not None) is settings.accelerator, "the accelerator is not installed"
    with trace.get_tracer("hot paths").start_as_current_span("hot paths"):
        path = PATHS[name](running.tracker)
        if arguments.counted:
            count_from_here()
        gc.freeze()
        measure(path.plain)
        if path.instrumentor is not None:
            path.instrumentor.instrument()
        measure(path.tracked)
    assert not running.tracker.errors, "a path failed: what was counted is not what is meant"


if __name__ == "__main__":
    main()

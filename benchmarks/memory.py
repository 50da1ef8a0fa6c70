"""What one live handle of each sort weighs, all included: bytes by tracemalloc, tracked less untracked; as JSON."""

from __future__ import annotations

import _weakrefset
import asyncio
import gc
import json
import resource
import tempfile
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import telemetry
from opentelemetry import trace

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor
from crawlo_otel_leaks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor

COUNT: Final = 4000
SET: Final = _weakrefset.__file__
INTERVAL: Final = 60.0
"""Seconds between two ticks of the runtime's own, which none is to be weighed in the midst of."""
SETTINGS: Final = Settings(scan_interval=INTERVAL, grace=1e6, top=False)


def files(name: str) -> Callable[[], object]:
    """Keep files open."""
    return lambda: open(name, encoding="ascii")  # noqa: PTH123  (builtins.open is what is watched)


def close(made: list[Any]) -> None:
    """Close files."""
    for file in made:
        file.close()


def tasks(loop: asyncio.AbstractEventLoop) -> Callable[[], object]:
    """Keep tasks pending."""

    async def wait() -> None:
        await asyncio.sleep(1e6)

    return lambda: loop.create_task(wait())


def cancel(loop: asyncio.AbstractEventLoop, made: list[asyncio.Task[None]]) -> None:
    """End tasks."""
    for task in made:
        task.cancel()
    loop.run_until_complete(asyncio.wait(made))


def traced() -> int:
    """Return the bytes in use, but for the set in which asyncio keeps all tasks: when that grows is chance."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(inclusive=False, filename_pattern=SET)])
    return sum(trace.size for trace in snapshot.traces)


def grown(make: Callable[[], object], count: int, running: runtime.Runtime) -> tuple[float, list[Any]]:
    """Return by how many bytes memory grows for each that is made and watched, and what was made."""
    before = traced()
    made = [make() for _ in range(count)]
    now = running.tracker.clock()
    for _ in range(3):  # promoted, and looked at
        now += INTERVAL
        running.detector.tick(now)
    return (traced() - before) / count, made


def weigh(make: Callable[[], object], instrumentor: Instrumentor, count: int, let_go: Callable[[Any], object]) -> float:
    """Return bytes of one handle."""
    running = runtime.start("memory", SETTINGS)
    assert running is not None
    weights = []
    for tracked in (False, True):
        if tracked:
            instrumentor.instrument(settings=SETTINGS)
        # First to warm up: what the library keeps its own in has grown when it is tracked, what we do has not.
        for size in (10 if tracked else count, count):
            weight, made = grown(make, size, running)
            let_go(made)
            del made
        weights.append(weight)
    instrumentor.uninstrument()
    runtime.stop("memory")
    return weights[1] - weights[0]


def measure() -> dict[str, float]:
    """Weigh all sorts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(COUNT, hard - 200)
    small = tempfile.NamedTemporaryFile()
    loop = asyncio.new_event_loop()
    return {
        "bytes_file": weigh(files(small.name), FilesInstrumentor(), count, close),
        "bytes_task": weigh(tasks(loop), TasksInstrumentor(), count, partial(cancel, loop)),
    }


def main() -> None:
    """Print the numbers."""
    telemetry.set_up()
    tracemalloc.start()
    with trace.get_tracer("benchmark").start_as_current_span("benchmark"):
        print(json.dumps(measure()))


if __name__ == "__main__":
    main()

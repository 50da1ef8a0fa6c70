"""What tracking costs: the same work tracked and untracked, in interleaved rounds of one process."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import clients
import pools
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

DEPTH = 20


def deep(depth: int, work: Callable[[], float]) -> float:
    """Run the work at a stack depth as real programs have."""
    return work() if depth == 0 else deep(depth - 1, work)


def files(loops: int) -> Callable[[], float]:
    """Open, read and close a small file; microseconds each."""
    path = str(Path(tempfile.mkdtemp(), "small.txt"))
    Path(path).write_text("x" * 100, encoding="ascii")

    def work() -> float:
        start = time.perf_counter()
        for _ in range(loops):
            with open(path, encoding="ascii") as file:  # noqa: PTH123  (builtins.open is what is measured)
                file.read()
        return (time.perf_counter() - start) / loops * 1e6

    return work


class Gets:
    """GETs of a local aiohttp server over one session; microseconds each."""

    def __init__(self, loops: int) -> None:
        import aiohttp  # noqa: PLC0415  (optional)
        from aiohttp import web  # noqa: PLC0415

        self._loops = loops
        self._aiohttp = aiohttp
        self._loop = asyncio.new_event_loop()
        app = web.Application()
        app.add_routes([web.get("/", self._hello)])
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        self._web = web

    async def _hello(self, _request: object) -> object:
        return self._web.Response(text="hello")

    async def _get_all(self) -> float:
        async with self._aiohttp.ClientSession() as session:
            start = time.perf_counter()
            for _ in range(self._loops):
                async with session.get(self._url) as response:
                    await response.read()
            return (time.perf_counter() - start) / self._loops * 1e6

    def __call__(self) -> float:
        """Run one round."""
        return self._loop.run_until_complete(self._get_all())


class Tasks:
    """Tasks that do nothing, made and awaited one after the other; microseconds each."""

    def __init__(self, loops: int) -> None:
        self._loops = loops
        self._loop = asyncio.new_event_loop()

    async def _await_all(self) -> float:
        start = time.perf_counter()
        for _ in range(self._loops):
            await asyncio.create_task(self._nothing())
        return (time.perf_counter() - start) / self._loops * 1e6

    async def _nothing(self) -> None:
        pass

    def __call__(self) -> float:
        """Run one round."""
        return self._loop.run_until_complete(self._await_all())


def threads(loops: int) -> Callable[[], float]:
    """Start and join threads that do nothing; microseconds each."""

    def work() -> float:
        start = time.perf_counter()
        for _ in range(loops):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
        return (time.perf_counter() - start) / loops * 1e6

    return work


def compare(work: Callable[[], float], instrumentor: BaseInstrumentor, rounds: int) -> dict[str, float]:
    """Return medians of both, in microseconds, and the median of the ratios of neighbouring rounds."""
    plain, tracked = [], []
    deep(DEPTH, work)
    for _ in range(rounds):
        plain.append(deep(DEPTH, work))
        instrumentor.instrument()
        tracked.append(deep(DEPTH, work))
        instrumentor.uninstrument()
    ratios = [after / before for before, after in zip(plain, tracked, strict=True)]
    return {
        "untracked_us": statistics.median(plain),
        "tracked_us": statistics.median(tracked),
        "ratio": statistics.median(ratios),
    }


def cases() -> dict[str, tuple[Callable[[], Callable[[], float]], str]]:
    """Return what is measured: how to prepare it, and the entry point whose instrumentor watches it."""
    return {
        "open + read + close": (lambda: files(1000), "files"),
        "aiohttp GET, local": (lambda: Gets(200), "aiohttp"),
        "urllib3 GET, local": (lambda: clients.urllib3_gets(200), "urllib3"),
        "requests GET, local": (lambda: clients.requests_gets(100), "urllib3"),
        "httpx GET, local": (lambda: clients.httpx_gets(100), "httpx"),
        "httpx GET, local, asyncio": (lambda: clients.AsyncHttpxGets(100), "httpx"),
        "asyncio create_task + await": (lambda: Tasks(3000), "tasks"),
        "thread start + join": (lambda: threads(300), "threads"),
        "redis GET": (lambda: pools.redis_gets(300), "redis"),
        "redis GET, asyncio": (lambda: pools.AsyncRedisGets(200), "redis"),
        "asyncpg acquire + SELECT 1 + release": (lambda: pools.AsyncpgSelects(100), "asyncpg"),
        "SQLAlchemy checkout + checkin": (lambda: pools.sqlalchemy_checkouts(1000), "sqlalchemy"),
    }


def measure(*, quick: bool, chosen: str) -> dict[str, dict[str, float]]:
    """Run the benchmarks whose name has the word in it."""
    found = {point.name: point for point in entry_points(group="opentelemetry_instrumentor")}
    rounds = 15 if quick else 61
    return {
        name: compare(prepare(), found[f"crawlo_leaks_{library}"].load()(), rounds)
        for name, (prepare, library) in cases().items()
        if chosen in name
    }


def main() -> None:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", metavar="WORD", help="only what has this word in its name")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    arguments = parser.parse_args()
    trace.set_tracer_provider(TracerProvider())
    with trace.get_tracer("benchmark").start_as_current_span("benchmark"):
        results = measure(quick=arguments.quick, chosen=arguments.only)
    print(f"Python {platform.python_version()}, {sys.platform}, level sampled, in a recording span, depth {DEPTH}")
    for name, result in results.items():
        print(
            f"{name:<36} untracked {result['untracked_us']:8.2f} us   tracked {result['tracked_us']:8.2f} us"
            f"   ratio {result['ratio']:.3f}",
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

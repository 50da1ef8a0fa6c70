"""Pages a second of a real Crawlo spider on 200 local pages, tracked and untracked, in interleaved rounds."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import crawls
import spiders
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from rounds import Spread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor


def instrumentors() -> list[BaseInstrumentor]:
    """Return all of ours that this environment has libraries for."""
    chosen = [one for one in entry_points(group="opentelemetry_instrumentor") if one.name.startswith("crawlo_leaks_")]
    made = [one.load()() for one in chosen]
    return [one for one in made if one._check_dependency_conflicts() is None]  # noqa: SLF001  (as the loader does)


class Speed(NamedTuple):
    """Of one round."""

    pages: float
    """A second."""
    cpu: float
    """Milliseconds of a processor for each page: what a busy machine does not distort."""


def speed(runs: int) -> Speed:
    """Crawl so often in one loop."""

    async def crawl() -> None:
        for _ in range(runs):
            await crawls.crawl(spiders.Healthy)

    gc.collect()  # what instrumenting left behind is not collected within the round
    start, busy, pages = time.perf_counter(), time.process_time(), runs * spiders.PAGES
    asyncio.run(crawl())
    return Speed(pages / (time.perf_counter() - start), (time.process_time() - busy) / pages * 1000)


def tracked(runs: int, all_of_ours: list[BaseInstrumentor]) -> Speed:
    for one in all_of_ours:
        one.instrument(skip_dep_check=True)
    try:
        return speed(runs)
    finally:
        for one in all_of_ours:
            one.uninstrument()


def _median(speeds: Iterable[Speed]) -> dict[str, float]:
    pages, cpu = (statistics.median(side) for side in zip(*speeds, strict=True))
    return {"pages_per_s": round(pages, 1), "cpu_ms_per_page": round(cpu, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3, help="crawls a round")
    options = parser.parse_args()
    trace.set_tracer_provider(TracerProvider())
    site = crawls.Site()
    os.environ[spiders.SITE] = site.url
    os.chdir(tempfile.mkdtemp())  # Crawlo walks through all that is below the current directory, for each crawl
    ours = instrumentors()
    speed(1), tracked(1, ours)  # what is made once is made
    pairs = []
    for number in range(options.rounds):  # the machine's other work falls on both alike
        if number % 2:
            plain, with_us = speed(options.runs), tracked(options.runs, ours)
        else:
            with_us, plain = tracked(options.runs, ours), speed(options.runs)
        pairs.append((plain, with_us))
    site.stop()
    ratio = Spread.of([with_us.pages / plain.pages for plain, with_us in pairs])
    untracked = _median(plain for plain, _ in pairs)
    found = {
        "crawlo": version("crawlo"),
        "pages_per_second": untracked["pages_per_s"],
        "untracked": untracked,
        "tracked": _median(with_us for _, with_us in pairs),
        "cpu_ratio": Spread.of([with_us.cpu / plain.cpu for plain, with_us in pairs])._asdict(),
        "ratio": ratio._asdict(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

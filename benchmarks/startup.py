"""What a start costs: all watched libraries imported, with and without all of ours instrumented, in new processes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rounds import Spread

LIBRARIES: Final = (
    *("aiofiles", "aiohttp", "aiomysql", "aiosqlite", "anyio", "asyncmy", "asyncpg", "motor", "psycopg", "psycopg2"),
    *("psycopg_pool", "pymongo", "pymysql", "redis", "redis.asyncio", "sqlalchemy", "sqlalchemy.ext.asyncio", "valkey"),
)


def start(what: str) -> float:
    """Import the libraries; set up telemetry if asked, and instrument everything if asked. Returns CPU milliseconds."""
    began = time.process_time()
    for library in LIBRARIES:
        if find_spec(library.partition(".")[0]):
            __import__(library)
    if what != "libraries":
        import telemetry  # noqa: PLC0415  (it is measured)

        telemetry.set_up()
    if what == "tracked":
        for point in entry_points(group="opentelemetry_instrumentor"):
            if point.name.startswith("crawlo_leaks_"):
                point.load()().instrument(raise_exception_on_conflict=False, skip_dep_check=True)
    return (time.process_time() - began) * 1e3


def measure(rounds: int) -> dict[str, Spread]:
    """Run all three in turns; return CPU milliseconds of each, and what tracking adds to its neighbour."""
    took: dict[str, list[float]] = {"libraries": [], "telemetry": [], "tracked": []}
    for _ in range(rounds):
        for what, values in took.items():
            done = subprocess.run(
                [sys.executable, __file__, what], check=True, capture_output=True, text=True, cwd=Path(__file__).parent
            )
            values.append(json.loads(done.stdout))
    added = [after - before for before, after in zip(took["telemetry"], took["tracked"], strict=True)]
    return {**{what: Spread.of(values) for what, values in took.items()}, "added": Spread.of(added)}


def main() -> None:
    """Start in one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["libraries", "telemetry", "tracked"])
    print(json.dumps(start(parser.parse_args().what)))


if __name__ == "__main__":
    main()

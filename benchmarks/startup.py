"""What a start costs: all watched libraries imported, with and without all of ours instrumented, in new processes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
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
    """Import the libraries; set up telemetry if asked, and instrument everything if asked. Returns CPU milliseconds.

    With telemetry comes OpenTelemetry's loader, which imports its own parts and looks for entry points without us too.
    """
    began = time.process_time()
    for library in LIBRARIES:
        if find_spec(library.partition(".")[0]):
            __import__(library)
    if what != "libraries":
        import opentelemetry.instrumentation.auto_instrumentation._load  # noqa: F401, PLC0415  (its import is measured)
        import telemetry  # noqa: PLC0415  (as above)

        telemetry.set_up()
        points = entry_points(group="opentelemetry_instrumentor")
    if what == "tracked":
        for point in points:
            if point.name.startswith("crawlo_leaks_"):
                point.load()().instrument(raise_exception_on_conflict=False, skip_dep_check=True)
    return (time.process_time() - began) * 1e3


def measure(rounds: int) -> dict[str, Spread]:
    """Run all three in turns; return CPU milliseconds of each, and what tracking adds to its neighbour."""
    took: dict[str, list[float]] = {"libraries": [], "telemetry": [], "tracked": []}
    with tempfile.TemporaryDirectory() as compiled:
        for what in took:
            _run(what, compiled)  # what is installed is compiled already: no source is to be compiled in a round
        for _ in range(rounds):
            for what, values in took.items():
                values.append(_run(what, compiled))
    added = [after - before for before, after in zip(took["telemetry"], took["tracked"], strict=True)]
    return {**{what: Spread.of(values) for what, values in took.items()}, "added": Spread.of(added)}


def _run(what: str, compiled: str) -> float:
    """Start a process in one of the ways, which keeps and finds its bytecode in a directory."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    command = [sys.executable, __file__, what]
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return float(json.loads(done.stdout))


def main() -> None:
    """Start in one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["libraries", "telemetry", "tracked"])
    print(json.dumps(start(parser.parse_args().what)))


if __name__ == "__main__":
    main()

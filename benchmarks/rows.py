"""The rows of the table whose numbers are ratios: the work, the goal, and what a user would pick instead."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import clients
import pools
import telemetry
import works
from opentelemetry import trace
from rivals import CONTRIB, FRAMES, Contrib, Rival, Tracemalloc, Tracked, Warned
from rounds import Compared, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from works import Work

OURS: Final = "tracked"
SWIFT: Final = "accelerated"
"""Tracked with the accelerator, where that is installed."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    goal: float | None
    """The ratio tracked/untracked that it is to stay below, if any was set."""
    library: str
    prepare: Callable[[], Work]
    rounds: int
    level: str = "sampled"
    alone: bool = False
    """Whether the rivals' numbers stand in another row."""


ROWS: Final = (
    Row("open + read + close", 1.10, "files", lambda: works.files(20_000), 31),
    Row("open + read + close, level full", 1.35, "files", lambda: works.files(20_000), 31, "full", alone=True),
    Row("SQLAlchemy checkout + checkin", 1.15, "sqlalchemy", lambda: pools.sqlalchemy_checkouts(40_000), 31),
    Row("redis GET", 1.03, "redis", lambda: pools.redis_gets(4000), 31),
    Row("redis GET, asyncio", 1.03, "redis", lambda: pools.AsyncRedisGets(4000), 31),
    Row("asyncpg acquire + SELECT 1 + release", 1.03, "asyncpg", lambda: pools.AsyncpgSelects(2000), 31),
    Row("aiohttp GET, local server", 1.02, "aiohttp", lambda: works.Gets(4000), 31),
    Row("urllib3 GET, local server", None, "urllib3", lambda: clients.urllib3_gets(1000), 31),
    Row("requests GET, local server", None, "urllib3", lambda: clients.requests_gets(500), 31),
    Row("httpx GET, local server", None, "httpx", lambda: clients.httpx_gets(500), 31),
    Row("httpx GET, asyncio, local server", None, "httpx", lambda: clients.AsyncHttpxGets(300), 31),
    Row("asyncio create_task + await", 1.15, "tasks", lambda: works.Tasks(20_000), 31),
    Row("thread start + join", None, "threads", lambda: works.threads(2000), 31),
    Row("open + read + close, level off, all on", 1.01, "", lambda: works.files(20_000), 31, "off", alone=True),
)


def rivals_of(row: Row) -> dict[str, Rival]:
    """Return what the row's work runs under; ours comes separately, because it is stopped."""
    if row.alone:
        return {}
    others: dict[str, Rival] = {f"tracemalloc({FRAMES})": Tracemalloc(), "warnings + debug": Warned()}
    contrib = Contrib(row.library) if row.library in CONTRIB else None
    if contrib is not None and contrib.refusal:
        print(f"contrib for {row.library} was not measured: {contrib.refusal}", file=sys.stderr)
    elif contrib is not None:
        others["contrib"] = contrib
    return others


def measure(row: Row, rounds: int | None, loops: int | None = None, *, accelerated: bool) -> Compared:
    """Measure one row: beside its rivals, or, in a process of its own, with the accelerator."""
    work, ours = row.prepare(), Tracked(row.library, row.level, accelerator=accelerated)
    work.whole = loops or work.whole
    others = {} if accelerated else rivals_of(row)
    try:
        return compare(work, {SWIFT if accelerated else OURS: ours, **others}, rounds or row.rounds)
    finally:
        ours.close()
        work.close()


def main() -> None:
    """Measure one row; print JSON, as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=[row.name for row in ROWS])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--loops", type=int, help="operations of a round; short ones where a machine's speed wavers")
    parser.add_argument("--accelerated", action="store_true", help="by ours alone, in C")
    arguments = parser.parse_args()
    row = next(row for row in ROWS if row.name == arguments.row)
    telemetry.set_up()
    with trace.get_tracer("benchmark").start_as_current_span("benchmark"):
        print(json.dumps(measure(row, arguments.rounds, arguments.loops, accelerated=arguments.accelerated)._asdict()))


if __name__ == "__main__":
    main()

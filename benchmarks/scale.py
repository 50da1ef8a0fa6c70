"""A million live handles: what they weigh, what a tick and a collection of the gauges take; JSON on stdout."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import psutil
import telemetry
from dummypool import Connection, Pool, Watch
from opentelemetry import trace

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.agenda import Agenda
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.watch import BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.model import Handle

TICKS: Final = 21
HOUR: Final = 3600.0
OVERDUE: Final = 10
TURNS: Final = BACKOFF * 12
"""Moments of a minute at which handles fall due: that part of the scan interval, which is 5 s, lies between two."""


class Clock:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        """Return now, in a number of its own, as a real clock does: each handle's is part of what it weighs."""
        return self.now + 0.0


def milliseconds(work: Callable[[], object], times: int = TICKS) -> list[float]:
    """Return the CPU time of each of some runs."""
    took = []
    for _ in range(times):
        start = time.thread_time()
        work()
        took.append((time.thread_time() - start) * 1e3)
    return took


def resident() -> int:
    """Return the bytes that are resident, after a collection."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def take(watch: Watch, pool: Pool, connections: list[Connection]) -> None:
    """Take each connection, without a wrapper: the pool would give the same one again and again."""
    frame = sys._getframe()  # noqa: SLF001  (documented)
    known, tracker = watch.pool_of(pool), watch.tracker
    for connection in connections:
        handle = watch.new_handle(frame)
        tracker.locate(handle, frame)
        watch.enter(known, connection, handle)


def settle(running: runtime.Runtime, clock: Clock, count: int) -> None:
    """Tick until every handle has been promoted and looked at once."""
    clock.now += 6
    old = running.tracker.old[Watch.kind]
    while len(old) < count or running.detector._agenda.open(clock.now):  # noqa: SLF001
        running.detector.tick(clock.now)


def plan(running: runtime.Runtime, handle: Handle, due: float) -> None:
    """Have a handle looked at when `due` says, and found to be well."""
    running.detector._agenda.add(handle, due, 2 * HOUR, seen=True)  # noqa: SLF001


def spread(running: runtime.Runtime, due: Callable[[], float]) -> None:
    """Have every handle looked at when `due` says, in monotonic seconds."""
    running.detector._agenda = Agenda()  # noqa: SLF001  (no program could be brought there in less than an hour)
    for handle in running.tracker.old[Watch.kind]:
        plan(running, handle, due())


def steady(running: runtime.Runtime, clock: Clock, count: int) -> dict[str, float]:
    """Tick through a minute in which each handle falls due for its look, as it does in every minute."""
    rng = random.Random(0)
    start = clock.now
    spread(running, lambda: start + rng.randrange(TURNS) * 60 / TURNS)
    took = []
    for _ in range(12):
        clock.now += 5
        took += milliseconds(lambda: running.detector.tick(clock.now), 1)
    return {"tick_in_steady_state_ms": statistics.median(took), "handles": count}


def measure(count: int) -> dict[str, Any]:
    """Hold so many, and look at what that costs."""
    reader = telemetry.set_up()
    clock = Clock()
    running = runtime.Runtime(Settings(scan_interval=5.0, top=False, thresholds={}), clock)
    watch, pool = Watch(running), Pool()
    connections = [Connection() for _ in range(count)]
    before = resident()
    with trace.get_tracer("benchmark").start_as_current_span("benchmark"):
        take(watch, pool, connections)
        young = resident()
        settle(running, clock, count)
        old = resident()
        results: dict[str, Any] = {
            "bytes_young": (young - before) / count,
            "bytes_old": (old - before) / count,
        }
        gc.disable()
        results |= ticks(running, clock)
        gc.enable()
        running.tick(clock.now)
        results["gauges_ms"] = statistics.median(milliseconds(reader.get_metrics_data))
        results |= steady(running, clock, count)
    with contextlib.suppress(AttributeError):
        results["errors"] = running.tracker.errors
    return results


def ticks(running: runtime.Runtime, clock: Clock) -> dict[str, Any]:
    """Tick while nothing is due, and while a few are overdue."""
    detector = running.detector
    spread(running, lambda: clock.now + HOUR)
    idle = milliseconds(lambda: detector.tick(clock.now))
    some = list(running.tracker.old[Watch.kind])[:OVERDUE]
    busy = []
    for _ in range(TICKS):
        for handle in some:
            plan(running, handle, clock.now)
        busy += milliseconds(lambda: detector.tick(clock.now), 1)
    return {"tick_none_ms": statistics.median(idle), f"tick_{OVERDUE}_ms": statistics.median(busy)}


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.count)))


if __name__ == "__main__":
    main()

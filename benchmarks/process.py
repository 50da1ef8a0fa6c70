"""What a snapshot costs at 100 k and 1 M objects and 1 000 fds, beside a census by gc.collect and gc.get_objects."""

from __future__ import annotations

import argparse
import gc
import platform
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks import process
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.tracker import Tracker
from crawlo_otel_leaks.vitals import INTERVAL, Point, Vitals

if TYPE_CHECKING:
    from collections.abc import Callable

FDS: Final = 1_000
GB: Final = 1 << 30


def milliseconds(work: Callable[[], object], rounds: int) -> str:
    """Return least, median and worst of some rounds; on a machine with other work the least tells the cost."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return f"{min(took):9.2f} {statistics.median(took):9.2f} {max(took):9.2f}"


def census() -> Counter[str]:
    """Do what is usually done."""
    gc.collect()
    return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())


def compute(stop: threading.Event) -> None:
    """Keep the interpreter busy."""
    while not stop.is_set():
        sum(range(100))


def look() -> Callable[[], object]:
    """Return the detector thread's whole step: snapshot, attribution, the trend of a full series."""
    vitals = Vitals(Tracker(Sites(20)))
    now = 0.0
    for place in range(720):
        now += INTERVAL
        vitals.series.add(Point(now, now, fds=FDS + place % 7))

    def step() -> None:
        nonlocal now
        now += INTERVAL
        vitals.look(now)

    return step


def measure(rounds: int, works: dict[str, Callable[[], object]]) -> None:
    """Print a line for each."""
    for name, work in works.items():
        print(f"  {name:<44}{milliseconds(work, rounds)}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no memory of 1 GB")
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 21
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * FDS), hard))
    kept = [tempfile.TemporaryFile() for _ in range(FDS // 2)], [socket.socketpair() for _ in range(FDS // 4)]
    cheap: dict[str, Callable[[], object]] = {
        "take()": process.take,
        "  of it the descriptors, by type": process.descriptors,
        "the detector's look, every 15 s": look(),
    }
    dear: dict[str, Callable[[], object]] = {
        "take(types=True)": lambda: process.take(types=True),
        "take(sockets=True)": lambda: process.take(sockets=True),
        "take(uss=True)": lambda: process.take(uss=True),
        "gc.collect() + gc.get_objects() + names": census,
    }
    print(f"Python {platform.python_version()}, {sys.platform}; milliseconds: least, median, worst; {FDS} fds")
    objects: list[list[int]] = []
    for count in (100_000, 1_000_000):
        objects += [[place] for place in range(count - len(objects))]
        gc.collect()
        print(f"{count} objects")
        measure(rounds, cheap)
        measure(max(rounds // 4, 3), dear)
    stop = threading.Event()
    threading.Thread(target=compute, args=(stop,), daemon=True).start()
    print("the same beside a thread that computes without end")
    measure(max(rounds // 4, 3), cheap)
    stop.set()
    if not arguments.quick:
        resident = bytearray(GB)
        resident[::4096] = b"x" * len(range(0, GB, 4096))
        print("1 GB resident")
        measure(rounds // 4, {"take()": process.take, "take(uss=True)": lambda: process.take(uss=True)})
    del kept


if __name__ == "__main__":
    main()

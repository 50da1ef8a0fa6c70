"""The process as the kernel and the interpreter see it at one moment: memory, descriptors, threads, tasks, gc."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import chain, islice
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ReferenceType, WeakSet

from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import peers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crawlo_otel_leaks.peers import Peer

LINUX: Final = sys.platform == "linux"
BUDGET: Final = 0.1
"""Seconds for the descriptors of one snapshot: where threads compete for the interpreter each costs a turn."""
SAMPLED: Final = 7
"""Of so many objects one is counted by its type; a prime, lest it beat time with how a program allocates."""
TYPES: Final = 100
"""Types told apart; the rest is `other`."""
LOOPS: Final = 1_000
"""Tasks that are asked for their event loop."""
_DESCRIPTORS: Final = "/proc/self/fd"
_FORMATS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_ANONYMOUS: Final = ("eventfd", "eventpoll", "inotify", "io_uring", "pidfd", "signalfd", "timerfd")
UNCLASSIFIED: Final = "unclassified"


class Descriptor(NamedTuple):
    """What an open descriptor refers to; two are equal if they refer to the same."""

    type: str
    device: int
    inode: int


@dataclass(frozen=True)
class ProcessSnapshot:
    """One look at the process; None is what cannot be known here, or was not asked for."""

    at: float
    """Monotonic seconds."""
    wall: float
    """Seconds since 1970."""
    rss: int | None = None
    """Bytes of memory that are resident."""
    uss: int | None = None
    """Bytes of those that would be free if the process ended; on request."""
    fds: int | None = None
    """Open descriptors."""
    fds_by_type: Mapping[str, int] | None = None
    sockets: Mapping[Peer, int] | None = None
    """Sockets by protocol, state and peer; on request."""
    threads: int | None = None
    """Threads that the kernel runs, those of libraries in C included."""
    tasks: int | None = None
    """asyncio tasks that are alive: pending, or finished and still referred to."""
    gc_counts: tuple[int, ...] = ()
    """Objects of each generation as the collector counts them."""
    gc_collections: tuple[int, ...] = ()
    """Collections of each generation so far."""
    gc_uncollectable: int = 0
    types: Mapping[str, int] | None = None
    """Objects that the collector knows, by `module.qualified name` of their type, estimated; on request."""


def take(*, uss: bool = False, sockets: bool = False, types: bool = False) -> ProcessSnapshot:
    """Return a snapshot of this process: at most a few milliseconds, unless more is asked for.

    `uss` and `sockets` read what the kernel has to compute, up to 60 ms for each GB resident and some 40 ms; `types`
    stops all threads for some 0.1 s for each million objects. None of them on the thread of a running event loop.
    """
    if uss or sockets or types:
        _refuse_on_event_loop()
    return snapshot(descriptors(), uss=uss, sockets=sockets, types=types)


def snapshot(
    held: Mapping[int, Descriptor] | None, *, uss: bool = False, sockets: bool = False, types: bool = False
) -> ProcessSnapshot:
    """Return a snapshot whose descriptors are `held`, listed before, or None if they could not be."""
    rss, threads = _status() if LINUX else _portable()
    stats = gc.get_stats()
    return ProcessSnapshot(
        at=time.monotonic(),
        wall=time.time(),
        rss=rss,
        uss=_uss() if uss else None,
        fds=_count() if held is None else len(held),
        fds_by_type=None if held is None else dict(Counter(one.type for one in held.values())),
        sockets=peers.by_peer(_inodes(held)) if sockets and held is not None else None,
        threads=threads,
        tasks=tasks(),
        gc_counts=gc.get_count(),
        gc_collections=tuple(one["collections"] for one in stats),
        gc_uncollectable=sum(one["uncollectable"] for one in stats),
        types=object_types() if types else None,
    )


def _refuse_on_event_loop() -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  (get_running_loop raises where there is none)
        raise RuntimeError(
            "this snapshot would stop the event loop that runs on this thread; "
            "call it on another, as asyncio.to_thread does, or without uss, sockets and types",
        )


# Descriptors.


def descriptors(budget: float = BUDGET) -> dict[int, Descriptor] | None:
    """Return what each open descriptor refers to, none of our own among them; None if that cannot be known in time.

    What was listed but not looked at within `budget` seconds is unclassified. By fstat, for a quarter of what
    readlink costs; like any look at a file it waits for a network file system that hangs.
    """
    if not LINUX:
        return None
    end = time.monotonic() + budget
    numbers = _numbers(end)
    if numbers is None:
        return None
    found = {}
    for number in numbers:
        if time.monotonic() > end:
            found[number] = Descriptor(UNCLASSIFIED, 0, 0)
            continue
        try:
            found[number] = _describe(number, os.fstat(number))
        except OSError:  # closed by another thread, or the one that the listing itself used
            continue
    return found


def _numbers(end: float) -> list[int] | None:
    """List the numbers of the open descriptors, with the one that listing takes; None if it takes too long."""
    numbers = []
    try:
        with os.scandir(_DESCRIPTORS) as entries:
            for entry in entries:
                if time.monotonic() > end:
                    return None
                numbers.append(int(entry.name))
    except OSError:  # no /proc, or no descriptor left to list it with
        return None
    return numbers


def _describe(number: int, status: os.stat_result) -> Descriptor:
    kind = _FORMATS.get(stat.S_IFMT(status.st_mode))
    return Descriptor(kind or _anonymous(number), status.st_dev, status.st_ino)


def _anonymous(number: int) -> str:
    """Name what has no format of a file: `anon_inode:[eventpoll]`, of which there are few."""
    link = os.readlink(f"{_DESCRIPTORS}/{number}")  # noqa: PTH115  (plain and quick)
    name = link.rpartition(":")[2].strip("[]")
    return name if name in _ANONYMOUS else "anon_inode"


def _count() -> int | None:
    """Return how many descriptors are open, without looking at them: the size of the directory, from Linux 6.2 on."""
    if not LINUX:
        number: int | None = _psutil("num_fds")
        return number
    try:
        return os.stat(_DESCRIPTORS).st_size or len(os.listdir(_DESCRIPTORS)) - 1  # noqa: PTH116, PTH208  (plain and quick)
    except OSError:
        return None


def _inodes(held: Mapping[int, Descriptor]) -> Counter[int]:
    return Counter(one.inode for one in held.values() if one.type == "socket")


# Memory and threads.


def _status() -> tuple[int | None, int | None]:
    """Return resident bytes and the number of threads."""
    fields = dict(line.split(b":", 1) for line in peers.read("/proc/self/status").splitlines() if b":" in line)
    rss, threads = fields.get(b"VmRSS"), fields.get(b"Threads")
    return int(rss.split()[0]) * 1024 if rss else None, int(threads) if threads else None


def _uss() -> int | None:
    """Return the bytes that are this process's alone."""
    private = [
        line.split()[1] for line in peers.read("/proc/self/smaps_rollup").splitlines() if line[:8] == b"Private_"
    ]
    if private:
        return sum(map(int, private)) * 1024
    memory = _psutil("memory_full_info")
    return getattr(memory, "uss", None)


def _portable() -> tuple[int | None, int | None]:
    return getattr(_psutil("memory_info"), "rss", None), _psutil("num_threads")


def _psutil(name: str) -> Any:  # noqa: ANN401  (as each method of psutil.Process has it)
    """Ask psutil; None where this system, or the right to look, is missing."""
    import psutil  # noqa: PLC0415  (needed only where there is no /proc)

    try:
        with suppress_instrumentation():
            return getattr(psutil.Process(), name)()
    except (AttributeError, OSError, psutil.Error):
        return None


# asyncio.


def _task_references() -> Iterator[list[ReferenceType[Any]]]:
    """Yield copies of asyncio's own weak references to tasks, made without a step of Python in between."""
    module = sys.modules.get("asyncio.tasks")
    for name in ("_all_tasks", "_scheduled_tasks"):  # until 3.11, from 3.12 on
        tasks = getattr(module, name, None)
        if isinstance(tasks, WeakSet):
            yield list(getattr(tasks, "data", ()))


def tasks() -> int | None:
    """Return how many asyncio tasks are alive; None from Python 3.14 on, which keeps no list of all."""
    return None if sys.version_info >= (3, 14) else sum(len(references) for references in _task_references())


def loop_descriptors() -> set[int]:
    """Return the descriptors that event loops with tasks have for themselves: selector and self-pipe.

    asyncio's; those of uvloop cannot be seen.
    """
    numbers = set()
    for references in _task_references():
        # C from end to end, so that no task can lose its last other reference while it is in our hands.
        alive = filter(None, map(ReferenceType.__call__, references[:LOOPS]))
        for loop in set(map(methodcaller("get_loop"), alive)):
            for name in ("_selector", "_ssock", "_csock"):
                try:
                    numbers.add(getattr(loop, name).fileno())
                except (AttributeError, ValueError, OSError):  # another make of loop, or closed
                    continue
    return numbers


# Objects.


def object_types(sampled: int = SAMPLED) -> dict[str, int]:
    """Estimate how many objects of each type the collector knows, the most frequent first.

    It stops all threads while it makes a list of all objects; the list is gone before anything else runs, so that
    no object ends later than it would have. Refused on the thread of a running event loop.
    """
    _refuse_on_event_loop()
    every = chain.from_iterable(
        map(gc.get_objects, (None,))
    )  # called by list(), in the midst of which nothing else runs
    found = list(map(type, islice(every, 0, None, sampled)))
    by_id = {id(one): one for one in found}  # by identity: a metaclass may have a hash of its own
    common = Counter(map(id, found)).most_common()
    types: Counter[str] = Counter()
    for key, count in common[:TYPES]:
        types[type_name(by_id[key])] += count * sampled
    rest = sum(count for _, count in common[TYPES:])
    if rest:
        types["other"] = rest * sampled
    return dict(types)


def type_name(kind: type) -> str:
    """Return `module.qualified name` without asking the metaclass."""
    module, name = (type.__dict__[part].__get__(kind) for part in ("__module__", "__qualname__"))
    return f"{module}.{name}" if isinstance(module, str) else str(name)

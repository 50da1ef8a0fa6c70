"""What threads and tasks have in common: each runs by itself, and most of them end by themselves."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from crawlo_otel_leaks.model import NamedHandle, Progress
from crawlo_otel_leaks.sites import package

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from crawlo_otel_leaks.model import Site
    from crawlo_otel_leaks.tracker import Tracker

CROWD: Final = 5
"""So many of one line that have outlived who started them are no work in progress, whatever they do."""
PATIENCE: Final = 2
"""One whose line has seen others end is given so many times the longest of them."""
MACHINERY: Final = frozenset(
    {
        "",  # the standard library: executors, queue listeners, servers, the loop's own
        "IPython",
        "_pydev_bundle",
        "_pydevd_bundle",
        "_pytest",
        "aiohttp",
        "anyio",
        "asgiref",
        "cheroot",
        "coverage",
        "crawlo_otel_leaks",
        "daphne",
        "ddtrace",
        "debugpy",
        "gevent",
        "grpc",
        "gunicorn",
        "hypercorn",
        "ipykernel",
        "nest_asyncio",
        "opentelemetry",
        "prompt_toolkit",
        "pydevd",
        "pytest_asyncio",
        "pytest_timeout",
        "quart",
        "rich",
        "sanic",
        "sentry_sdk",
        "starlette",
        "tornado",
        "uvicorn",
        "uvloop",
        "waitress",
        "watchfiles",
        "werkzeug",
    },
)
"""Packages whose threads and tasks are theirs to end: servers, runners, debuggers, telemetry."""

H = TypeVar("H", bound="RunnerHandle")


class RunnerHandle(NamedHandle):
    """A thread or task that has started and not ended."""

    __slots__ = ("ref", "runners")
    ref: weakref.ref[Any]
    runners: Runners[Any]
    shareable = True

    def referent(self) -> object | None:
        """Return the thread or task while it lives."""
        return self.ref()

    def single(self) -> bool:
        """Whether no other of its line runs: a background loop that was started once is meant to stay."""
        return self.runners.alive[self.site] <= 1

    def progress(self) -> Progress:
        """Tell use by its steps, unless its line has left a crowd."""
        if self.needed() or self.runners.over(self):  # over since the tick began, which may be long for a busy process
            return Progress(object())
        return Progress(None if self.runners.alive[self.site] >= CROWD else self.step())

    def busy(self) -> bool:
        """Whether others of its line took as long, and ended."""
        history = self.site.holds
        age = self.runners.tracker.clock() - self.acquired_at
        return history is not None and age <= PATIENCE * history.longest()

    def needed(self) -> bool:
        """Whether somebody waits for its end, or its end is certain."""
        return False

    def step(self) -> object:
        """Return a token that differs once it has gone on."""
        return None


class Runners(Generic[H]):
    """The threads or tasks that run, by identity; only the detector's thread counts them."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.held: dict[int, H] = tracker.stock.by_identity()
        self.alive: Counter[Site] = Counter()
        """How many of each line run."""

    def find(self, thing: object) -> H | None:
        """Return the handle of a thread or task."""
        handle = self.held.get(id(thing))
        return handle if handle is not None and handle.ref() is thing else None

    def count(self) -> None:
        """Count again, and let go of what has ended."""
        alive: Counter[Site] = Counter()
        for key in list(self.held):
            handle = self.held.get(key)
            if handle is None:
                continue
            if handle.released_at is not None or self.over(handle):
                self.end(key, handle)
            else:
                alive[handle.site] += 1
        self.alive = alive

    def begin(self, thing: object, handle: H) -> None:
        """Keep the handle of one that runs; an earlier one at its place in memory has ended."""
        earlier = self.held.get(id(thing))
        if earlier is not None:
            self.end(id(thing), earlier)
        self.held[id(thing)] = handle

    def over(self, handle: H) -> bool:
        """Whether it has ended, though nobody told."""
        return handle.ref() is None

    def end(self, key: int, handle: H) -> None:
        """Release one that has ended."""
        if self.held.get(key) is handle:
            self.held.pop(key, None)
        self.tracker.release(handle)

    def reset(self) -> None:
        """Forget all, in a forked child."""
        self.held.clear()
        self.alive.clear()


def files(frame: FrameType | None) -> Iterator[str]:
    """Yield the file of a frame, and of those that called it."""
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def maker(files: Iterable[str], tools: tuple[str, ...]) -> str | None:
    """Return the package of the nearest file that is no tool, as `sites.package` does; "" where there is none."""
    for file in files:
        if not file.endswith(tools) and f"opentelemetry{os.sep}instrumentation" not in file:
            return package(file)
    return ""

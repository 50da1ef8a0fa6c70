"""Who made something deep inside of the standard library: the program, a library, or nobody that can be told."""

from __future__ import annotations

import os
import threading
from asyncio import events
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crawlo_otel_leaks.owner import running_task
from crawlo_otel_leaks.sites import OWN, package

if TYPE_CHECKING:
    import weakref
    from asyncio import Task
    from collections.abc import Callable, Iterable
    from types import CodeType, FrameType

    from crawlo_otel_leaks.model import Handle, Stack
    from crawlo_otel_leaks.sites import Sites
    from crawlo_otel_leaks.tracker import Tracker

TOOLS: Final = frozenset(
    {
        "",  # the standard library: http.client, smtplib, asyncio ...
        "aiohappyeyeballs",
        "anyio",
        "crawlo_otel_leaks",
        "opentelemetry",
        "pytest_socket",
        "socks",
        "uvloop",
        "wrapt",
    },
)
"""Packages that make things for whoever called them."""
_TELEMETRY: Final = "opentelemetry" + os.sep


class Maker(Enum):
    """Whose affair it is how long something lives."""

    PROGRAM = "program"
    LIBRARY = "library"
    WATCHED = "watched"
    """A library whose own handles tell what becomes of it."""
    NOBODY = "nobody"
    """An event loop or a thread of the standard library's own accord."""
    OURS = "ours"
    """This package, for whoever watches from outside."""


_STANDS: Final = (OWN + "instrumentation" + os.sep, OWN + "demo" + os.sep)
"""Parts of it that stand in front of what others do, or show that."""
ROOTS: Final[dict[int, CodeType]] = {}
"""Functions, by identity, above which nobody is to be looked for: what is there started the loop, not the work."""


def root(code: CodeType) -> None:
    """Let nobody be looked for above a function."""
    ROOTS[id(code)] = code  # kept alive, because its id is a key


root(events.Handle._run.__code__)  # noqa: SLF001  (where asyncio's stacks begin)
root(threading.Thread._bootstrap_inner.__code__)  # type: ignore[attr-defined]  # noqa: SLF001  (where a thread's begins)


def run_forever(original: Callable[[Any], None], live: list[bool]) -> Callable[[Any], None]:
    """Return what stands for uvloop's method of that name, which has no frame that could be known by."""
    del live

    def run_forever(loop: Any) -> None:
        original(loop)

    root(run_forever.__code__)
    return run_forever


@lru_cache(maxsize=4096)
def tool(file: str) -> bool:
    """Whether a file's code makes things for whoever called it."""
    return package(file) in TOOLS or _TELEMETRY in file


def maker(frame: FrameType | None, sites: Sites) -> Maker:
    """Tell who made what is being made in `frame`: whose nearest frame it is that is no tool's."""
    while frame is not None:
        code = frame.f_code
        if id(code) in ROOTS:
            break
        if not tool(code.co_filename):
            return _of_file(code.co_filename, sites)
        if ours(code.co_filename):
            return Maker.OURS
        frame = frame.f_back
    return Maker.NOBODY


def ours(file: str) -> bool:
    """Whether a file is of this package, and not one that stands in front of what others do."""
    return file.startswith(OWN) and not file.startswith(_STANDS)


def _of_file(file: str, sites: Sites) -> Maker:
    name = package(file)
    if name is None:
        return Maker.PROGRAM
    return Maker.WATCHED if sites.hides(name) else Maker.LIBRARY


class Asker(NamedTuple):
    """Who had a task made: the stack of that, and the task that ran then."""

    steps: Stack
    task: weakref.ref[Task[Any]] | None


ASKERS: Final[list[Callable[[Any], Asker | None]]] = []
"""What can tell who had a task made: one while tasks are watched."""
_CHAIN: Final = 5
"""Tasks that made each other, followed to the one that somebody's code made."""


class Origin(NamedTuple):
    """Who makes something, and, where that is a task of a tool's alone (`wait_for`'s, say), who had the task made."""

    made_by: Maker
    asker: Asker | None = None

    def acquire(self, tracker: Tracker, handle: Handle, frame: FrameType) -> bool:
        """Hold what is being made in `frame`; False if it is telemetry's."""
        if self.made_by is Maker.OURS:
            tracker.ignored += 1
            return False
        if self.asker is None:
            return tracker.acquire(handle, frame) is not None
        if tracker.locate(handle, frame) is None:
            return False
        handle.site, handle.stack = tracker.sites.of(self.asker.steps, handle.kind)
        handle.task = self.asker.task
        task = handle.task() if handle.task else None
        handle.task_name = task.get_name() if task else None
        tracker.hold(handle)
        return True


def origin(frame: FrameType, sites: Sites) -> Origin:
    """Tell who makes what is being made in `frame`."""
    made_by = maker(frame, sites)
    return Origin(made_by) if made_by is not Maker.NOBODY else _of_task(running_task(), sites)


def _of_task(task: Any, sites: Sites) -> Origin:
    for _ in range(_CHAIN):
        asker = next((found for ask in ASKERS if task is not None and (found := ask(task))), None)
        if asker is None:
            break
        file = _nearest(code.co_filename for code, _ in asker.steps)
        if file is not None:
            return Origin(_of_file(file, sites), asker)
        task = asker.task() if asker.task else None
    return Origin(Maker.NOBODY)


def _nearest(files: Iterable[str]) -> str | None:
    return next((file for file in files if not tool(file)), None)

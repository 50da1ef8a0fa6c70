"""What all child processes have in common: how they are seen from outside, without taking their exit status away."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crawlo_otel_leaks import peers, semconv
from crawlo_otel_leaks.instrumentation._runners import CROWD, RunnerHandle, Runners, files
from crawlo_otel_leaks.model import Progress
from crawlo_otel_leaks.sites import package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from crawlo_otel_leaks.model import Handle, Site
    from crawlo_otel_leaks.runtime import Runtime

RUNNING: Final = "running"
ENDED: Final = "ended"
"""It has ended and nobody has waited for it: a zombie."""
GONE: Final = "gone"
"""Somebody has waited for it."""
SHELL: Final = "sh"
"""What runs a line of shell, none of which is shown."""
_THIN: Final = frozenset({"", "anyio", "opentelemetry", "psutil", "wrapt"})
"""Packages that start what their caller wants started; the standard library is one."""


class ChildHandle(RunnerHandle):
    """A child process, held until somebody has waited for it and the pipes to it are closed."""

    __slots__ = ("cut_off", "ended", "independent", "lasting", "pid", "signalled", "uses", "waiting")
    runners: Children[Any]
    pid: int
    cut_off: bool
    lasting: bool
    """While it runs, its age says nothing; nor while somebody waits for another of its line."""
    ended: bool
    independent: bool
    """Whether it was started to live its own life, in a session of its own, or by a library."""
    signalled: bool
    """Whether it was told to end."""
    uses: int
    waiting: int
    """How many wait for it right now."""

    def __init__(self, name: str) -> None:
        super().__init__(semconv.SUBPROCESS, name)
        self.ended = self.cut_off = self.independent = self.signalled = False
        self.lasting = True
        self.uses = self.waiting = 0

    def label(self) -> str:
        """Return the program's name and process id; never its arguments."""
        return f"{self.name} (pid {self.pid})"

    def state(self) -> str:
        """Return whether it runs, has ended, or is gone."""
        return state(self.pid)

    def pipes(self) -> bool:
        """Whether a pipe to it is open."""
        return False

    def single(self) -> bool:
        """Whether it runs, and no other of its line does; nobody shares what has ended."""
        return not self.ended and super().single()

    def busy(self) -> bool:
        """Whether others of its line ran as long, and ended."""
        return not self.ended and super().busy()

    def needed(self) -> bool:
        """Whether somebody waits for it, or it runs for itself."""
        return self.waiting > 0 or (self.independent and not self.ended)

    def progress(self) -> Progress:
        """Tell use by questions about it, and by what it does itself, unless its line has left a crowd."""
        if self.needed() or self.runners.over(self):
            return Progress(object())
        crowd = self.ended or self.runners.alive[self.site] >= CROWD
        return Progress((self.ended, self.uses, None if crowd else self.step()))

    def step(self) -> object:
        """Return the processor time that it has used."""
        return processor_time(self.pid)


C = TypeVar("C", bound=ChildHandle)


class Children(Runners[C]):
    """The child processes that one library started, by identity of what stands for them."""

    def __init__(self, running: Runtime) -> None:
        super().__init__(running.tracker)
        self._find_any = running.find

    def parts(self, pipes: Iterable[Any]) -> Iterator[Handle]:
        """Yield the handles of those pipes that are watched as files."""
        for pipe in pipes:
            part = None if pipe is None else self._find_any(pipe)
            if part is not None:
                yield part

    def count(self) -> None:
        """Ask each for its state, count those of a line that run, and let go of what is over."""
        alive: Counter[Site] = Counter()
        ended: Counter[Site] = Counter()
        waited: set[Site] = set()
        for key in list(self.held):
            handle = self.held.get(key)
            if handle is None:
                continue
            seen = handle.state()
            if handle.released_at is not None or self.over(handle):
                self.end(key, handle)
                continue
            handle.ended = seen is not RUNNING
            (ended if handle.ended else alive)[handle.site] += 1
            if handle.waiting:
                waited.add(handle.site)
        self.alive = alive
        for handle in list(self.held.values()):
            self._settle(handle, alone=ended[handle.site] <= 1, waited=handle.site in waited)

    def _settle(self, handle: C, *, alone: bool, waited: bool) -> None:
        """A program that exits need not wait for one that has ended, or was told to."""
        handle.lasting = not handle.ended or waited
        handle.cut_off = handle.signalled or handle.independent or (handle.ended and alone)

    # -- used by wrappers, which must never fail ----------------------------------------------------------

    def safely(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do a step of ours; the host's call goes on in any case."""
        try:
            return step(*args)
        except Exception as error:  # noqa: BLE001  (see above)
            if not self.tracker.closed:
                self.tracker.fail(f"{type(self).__name__}.{getattr(step, '__name__', '')}", error)
            return None

    def waits(self, thing: object, wrapped: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let somebody wait for a child, and release it if it is over then."""
        handle = self.find(thing)
        if handle is None:
            return wrapped(*args, **kwargs)
        handle.waiting += 1
        try:
            return wrapped(*args, **kwargs)
        finally:
            handle.waiting -= 1
            handle.uses += 1
            self.safely(self._end_if_over, thing, handle)

    def looks(self, thing: object, wrapped: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let somebody ask whether a child has ended: whose it is then is no longer who started it."""
        handle = self.find(thing)
        if handle is not None:
            self.safely(self.tracker.use, handle)
        return self.waits(thing, wrapped, *args, **kwargs)

    def signal(self, wrapped: Callable[..., Any], child: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in front of what sends a signal: it is told to end."""
        handle = self.find(child)
        if handle is not None:
            handle.signalled = True
        return wrapped(*args, **kwargs)

    def _end_if_over(self, thing: object, handle: C) -> None:
        if self.over(handle):
            self.end(id(thing), handle)


def finalizing(step: Callable[[Any], object]) -> Callable[..., Any]:
    """Return what does a step of ours before a finalizer, which stays a function: messages name it so."""

    def make(original: Callable[..., Any], live: list[bool]) -> Callable[..., Any]:
        def finalizer(thing: Any, *args: Any, **kwargs: Any) -> Any:
            if live:
                step(thing)
            return original(thing, *args, **kwargs)

        return finalizer

    return make


def state(pid: int) -> str:
    """Return what the kernel knows of a child, and leave its exit status to whoever waits for it."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return GONE
    return RUNNING if ended is None else ENDED


def processor_time(pid: int) -> object:
    """Return the clock ticks that a process has used, None where the system does not tell."""
    line = peers.read(f"/proc/{pid}/stat")
    return line.rpartition(b")")[2].split()[11:13] or None  # after the name, which may hold anything: utime, stime


def detached(pid: int) -> bool:
    """Whether a child leads a session or process group of its own, as daemons do."""
    try:
        return os.getpgid(pid) != os.getpgrp()
    except ProcessLookupError:
        return False


def made_by_library(frame: FrameType | None) -> bool:
    """Whether it is a library's decision that a child is started, and its to end."""
    for file in files(frame):
        name = package(file)
        if name is None:
            return False
        if name not in _THIN and name != "crawlo_otel_leaks":
            return True
    return False


def program(command: Any) -> str:
    """Return the base name of the program in a command, whose arguments are nobody's business."""
    if isinstance(command, (list, tuple)):
        command = command[0]
    if not isinstance(command, (str, bytes, os.PathLike)):  # a generator, say, which is not ours to read
        return "process"
    return os.path.basename(os.fsdecode(command))  # noqa: PTH119  (of str, bytes or a path)


def open_descriptors(pipes: Iterable[Any]) -> list[int]:
    """Return the descriptors of those pipes that are open."""
    return [pipe.fileno() for pipe in pipes if pipe is not None and not pipe.closed]

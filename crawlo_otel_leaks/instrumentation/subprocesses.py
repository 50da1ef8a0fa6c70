"""Child processes of subprocess and asyncio, from their start until they were waited for and their pipes are closed."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._async_children import AsyncChild, AsyncChildren
from crawlo_otel_leaks.instrumentation._children import (
    GONE,
    SHELL,
    ChildHandle,
    Children,
    detached,
    finalizing,
    made_by_library,
    open_descriptors,
    program,
)
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_PLACE: Final = 8
"""Of `shell` among Popen's arguments."""


class PopenHandle(ChildHandle):
    """A child of subprocess.Popen."""

    __slots__ = ()

    def pipes(self) -> bool:
        """Whether a pipe to it is open."""
        popen = self.ref()
        return popen is not None and not all(pipe.closed for pipe in _pipes(popen))

    def descriptors(self) -> Iterable[int]:
        """Return those of its open pipes."""
        popen = self.ref()
        return () if popen is None else open_descriptors(_pipes(popen))


class Popens(Children[PopenHandle]):
    """What stands in front of Popen's methods."""

    def start(self, wrapped: Wrapped, popen: subprocess.Popen[Any], args: Arguments, kwargs: Keywords) -> None:
        """Popen.__init__: there is a child when it returns."""
        wrapped(*args, **kwargs)
        shell = kwargs.get("shell") or (len(args) > _PLACE and args[_PLACE])
        self.safely(self._note, popen, shell, sys._getframe(1))  # noqa: SLF001  (documented)

    def wait(self, wrapped: Wrapped, popen: object, args: Arguments, kwargs: Keywords) -> Any:
        """Popen.wait and communicate: somebody takes care of it."""
        return self.waits(popen, wrapped, *args, **kwargs)

    def poll(self, wrapped: Wrapped, popen: object, args: Arguments, kwargs: Keywords) -> Any:
        """Popen.poll: somebody has an eye on it."""
        return self.looks(popen, wrapped, *args, **kwargs)

    def drop(self, popen: Any) -> None:
        """Popen.__del__: nobody will wait for it any more."""
        handle = self.held.pop(id(popen), None)
        if handle is not None:
            self.safely(self._dropped, popen, handle)

    def over(self, handle: PopenHandle) -> bool:
        """Whether it was waited for and its pipes are closed."""
        popen = handle.ref()
        if popen is None:
            return True
        waited = popen.returncode is not None or handle.state() is GONE
        return waited and not handle.pipes()

    def _note(self, popen: subprocess.Popen[Any], shell: object, frame: FrameType) -> None:
        watched_above = str(frame.f_globals.get("__name__")).startswith("asyncio.")  # by its transport
        if watched_above or popen.pid is None:  # or a test that starts nothing
            return
        handle = PopenHandle(SHELL if shell else program(popen.args))
        handle.ref, handle.runners, handle.pid = weakref.ref(popen), self, popen.pid
        if self.tracker.acquire(handle, frame) is None:
            return
        handle.independent = detached(popen.pid) or made_by_library(frame)
        for part in self.parts(_pipes(popen)):
            part.join(handle)
        self.begin(popen, handle)

    def _dropped(self, popen: Any, handle: PopenHandle) -> None:
        """A daemon is started to be left alone; of any other CPython says itself that it is still running."""
        if popen.returncode is not None or handle.state() is GONE:
            self.tracker.release(handle)
        elif detached(handle.pid) and not handle.pipes():
            self.tracker.forget(handle)
        else:
            for part in self.parts(_pipes(popen)):  # CPython keeps them open until it happens upon the child's end
                part.let_go()
                self.tracker.forget(part)
            self.tracker.abandon(handle)


def _pipes(popen: Any) -> list[Any]:
    return [pipe for pipe in (popen.stdin, popen.stdout, popen.stderr) if pipe is not None]


class SubprocessesInstrumentor(Instrumentor):
    """Watches subprocess.Popen, and what asyncio's loops and uvloop's start."""

    handles = (PopenHandle, AsyncChild)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        popens, children = Popens(running), AsyncChildren(running)
        for each in (popens, children):
            running.attend(each.find, each.count, each.reset)
        return [
            Point("subprocess", "Popen.__del__", finalizing(popens.drop), semconv.SUBPROCESS, direct=True),
            Point("subprocess", "Popen.wait", popens.wait, semconv.SUBPROCESS),
            Point("subprocess", "Popen.communicate", popens.wait, semconv.SUBPROCESS),
            Point("subprocess", "Popen.poll", popens.poll, semconv.SUBPROCESS),
            Point("subprocess", "Popen.send_signal", popens.signal, semconv.SUBPROCESS),
            Point("subprocess", "Popen.__init__", popens.start, semconv.SUBPROCESS),
            *children.points(),
        ]

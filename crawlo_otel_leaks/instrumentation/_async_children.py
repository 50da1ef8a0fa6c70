"""Child processes of asyncio's loops and of uvloop's: the loop waits for them, and the program for the loop."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

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
from crawlo_otel_leaks.instrumentation._origins import Origins
from crawlo_otel_leaks.instrumentation._wrapping import Point

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_PIPES: Final = (0, 1, 2)


class AsyncChild(ChildHandle):
    """A child of an event loop; `ref` is to its protocol, which lives as long as its transport."""

    __slots__ = ("loop", "transport")
    loop: weakref.ref[AbstractEventLoop]
    transport: Callable[[], Any]

    def state(self) -> str:
        """Return whether it runs; the loop, not the kernel, says when it is gone."""
        transport = self.transport()
        if transport is not None and transport.get_returncode() is not None:
            return GONE
        return super().state()

    def pipes(self) -> bool:
        """Whether a pipe to it is open."""
        return bool(self._open())

    def _open(self) -> list[Any]:
        transport = self.transport()
        pipes = [transport.get_pipe_transport(number) for number in _PIPES] if transport is not None else ()
        return [pipe for pipe in pipes if pipe is not None and not pipe.is_closing()]

    def descriptors(self) -> Iterable[int]:
        """Return those of its open pipes; uvloop shows none."""
        return open_descriptors(self.files())

    def files(self) -> list[Any]:
        """Return the files below its open pipes, as far as the loop has such."""
        return [pipe.get_extra_info("pipe") for pipe in self._open()]

    def needed(self) -> bool:
        """Whether somebody waits for it, or for what it says."""
        protocol = self.ref()
        readers = (getattr(protocol, name, None) for name in ("stdout", "stderr"))
        return super().needed() or any(getattr(reader, "_waiter", None) is not None for reader in readers)

    def loop_closed(self) -> bool:
        """Whether nobody will wait for it any more, and it was not meant to be alone."""
        loop = self.loop()
        alone = self.independent and not self.ended and not self.pipes()
        return loop is not None and loop.is_closed() and not alone


class AsyncChildren(Children[AsyncChild]):
    """What stands in front of the loops' methods."""

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self._origins: Origins[Handle] = Origins(running.tracker.chores)

    def ask(self, wrapped: Wrapped, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """asyncio.create_subprocess_exec and _shell: `wait_for` may have another task run them."""
        del instance
        coroutine = wrapped(*args, **kwargs)
        self.safely(self._note_asked, coroutine, sys._getframe(1))  # noqa: SLF001  (documented)
        return coroutine

    def _note_asked(self, coroutine: Any, frame: FrameType) -> None:
        origin = self._located(frame)
        if origin is not None:
            self._origins.add(coroutine, origin)

    def execute(self, wrapped: Wrapped, loop: Any, args: Arguments, kwargs: Keywords) -> Any:
        """loop.subprocess_exec."""
        starting = wrapped(*args, **kwargs)  # which refuses what is no program
        name = program(kwargs.get("program", args[1] if len(args) > 1 else None))
        return self._start(starting, loop, name, sys._getframe(1))  # noqa: SLF001  (documented)

    def shell(self, wrapped: Wrapped, loop: Any, args: Arguments, kwargs: Keywords) -> Any:
        """loop.subprocess_shell."""
        return self._start(wrapped(*args, **kwargs), loop, SHELL, sys._getframe(1))  # noqa: SLF001  (documented)

    def _start(self, starting: Any, loop: Any, name: str, frame: FrameType) -> Any:
        origin = self._origins.of(frame) or self.safely(self._located, frame)
        return starting if origin is None else _named_as(starting, self._started(starting, loop, origin, name))

    async def _started(self, starting: Any, loop: Any, origin: Handle, name: str) -> Any:
        transport, protocol = await starting
        self.safely(self._note, transport, protocol, loop, origin, name)
        return transport, protocol

    def _located(self, frame: FrameType) -> AsyncChild | None:
        origin = AsyncChild("")
        if self.tracker.locate(origin, frame) is None:
            return None
        origin.independent = made_by_library(frame)
        return origin

    def _note(self, transport: Any, protocol: Any, loop: Any, origin: Handle, name: str) -> None:
        handle = AsyncChild(name)
        try:
            handle.ref = weakref.ref(protocol)
        except TypeError:  # without a place for references it cannot be watched
            self.tracker.ignored += 1
            return
        handle.runners, handle.pid = self, transport.get_pid()
        handle.loop = weakref.ref(loop)
        try:
            handle.transport = weakref.ref(transport)
        except TypeError:  # uvloop's take none; its protocol knows it
            handle.transport = _Known(handle.ref)
        handle.independent = getattr(origin, "independent", False) or detached(handle.pid)
        for part in self.parts(handle.files()):
            part.join(handle)
        self.tracker.enter(handle, origin)
        self.begin(protocol, handle)

    def wait(self, wrapped: Wrapped, process: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Process.wait and communicate."""
        waiting, handle = wrapped(*args, **kwargs), self.find(process)
        return waiting if handle is None else _named_as(waiting, self._waited(waiting, handle))

    async def _waited(self, waiting: Any, handle: AsyncChild) -> Any:
        handle.waiting += 1
        try:
            return await waiting
        finally:
            handle.waiting -= 1
            handle.uses += 1
            self.safely(self._end_if_over, handle.ref(), handle)

    def drop(self, transport: Any) -> None:
        """BaseSubprocessTransport.__del__, which kills what nobody closed."""
        protocol = getattr(transport, "_protocol", None)
        handle = None if protocol is None else self.held.pop(id(protocol), None)
        if handle is not None:
            (self.tracker.release if transport.is_closing() else self.tracker.abandon)(handle)

    def find(self, thing: Any) -> AsyncChild | None:
        """Return the handle of a Process or of a protocol."""
        return super().find(getattr(thing, "_protocol", thing))

    def over(self, handle: AsyncChild) -> bool:
        """Whether it was waited for and its pipes are closed."""
        return handle.transport() is None or (handle.state() is GONE and not handle.pipes())

    def points(self) -> list[Point]:
        """Return the table."""
        asked, process = "asyncio", "asyncio.subprocess"
        loops = (("asyncio.base_events", "BaseEventLoop"), ("uvloop", "Loop"))
        return [
            Point("asyncio.base_subprocess", "BaseSubprocessTransport.__del__", finalizing(self.drop), direct=True),
            *(Point(process, f"Process.{name}", self.wait) for name in ("wait", "communicate")),
            *(Point(process, f"Process.{name}", self.signal) for name in ("send_signal", "terminate", "kill")),
            *(
                Point(module, f"create_subprocess_{way}", self.ask)
                for module in (asked, process)
                for way in ("exec", "shell")
            ),
            *(
                Point(module, f"{loop}.subprocess_{way}", wrapper)
                for module, loop in loops
                for way, wrapper in (("exec", self.execute), ("shell", self.shell))
            ),
        ]


def _named_as(original: Any, ours: Any) -> Any:
    """Show a coroutine of ours, in the names of tasks and in warnings, as the one that it awaits."""
    name = getattr(original, "__qualname__", None)
    if name is not None:
        ours.__qualname__, ours.__name__ = name, original.__name__
    return ours


class _Known:
    """The transport of a protocol, as long as that names it."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: weakref.ref[Any]) -> None:
        self._protocol = protocol

    def __call__(self) -> Any:
        """Return it."""
        protocol = self._protocol()
        return getattr(protocol, "_transport", None) or getattr(protocol, "transport", None)

"""Event loops and selectors: each has descriptors of its own until it is closed."""

from __future__ import annotations

import asyncio
import selectors
import sys
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import _makers
from crawlo_otel_leaks.instrumentation._makers import Maker
from crawlo_otel_leaks.instrumentation._things import ThingHandle, Things
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.model import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]

_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)
_SELECTOR: Final = selectors.DefaultSelector.__name__
_POLICY: Final = "get_event_loop"
"""Function of asyncio's that makes the loop which nobody asked for, and which lives as long as the process."""
_REACH: Final = 8
_OWN: Final = ("_selector", "_ssock", "_csock")


class LoopHandle(ThingHandle):
    """An event loop that is not closed, and what it is made of."""

    __slots__ = ("unasked",)
    unasked: bool
    """Whether asyncio made it because none was there."""

    def progress(self) -> Progress:
        """Tell use by its running; one that runs at the exit is cut off."""
        busy = self.busy()
        self.cut_off = busy or self.unasked or self.made_by is not Maker.PROGRAM
        return Progress(object() if busy else None)

    def busy(self) -> bool:
        """Whether somebody runs it."""
        loop = self.ref()
        return loop is not None and bool(loop.is_running())

    def descriptors(self) -> Iterable[int]:
        """Return those of its selector and of the pair of sockets that wakes it; uvloop's cannot be seen."""
        return [number for name in _OWN for number in _number(getattr(self.ref(), name, None))]


class SelectorHandle(ThingHandle):
    """A selector that is not closed; the one of an event loop is part of that."""

    __slots__ = ("part_of",)
    elementary = True

    def descriptors(self) -> Iterable[int]:
        """Return its own."""
        return _number(self.ref())


class Loops(Things[LoopHandle]):
    """What stands in front of the methods of asyncio's and uvloop's loops."""

    make = LoopHandle
    kind = semconv.CUSTOM

    def name(self, thing: Any) -> str:
        """Return `event loop` and its class."""
        return f"event loop {type(thing).__module__.partition('.')[0]}.{type(thing).__qualname__}"

    def create(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a loop's `__init__`."""

        def create(loop: Any, *args: Any, **kwargs: Any) -> None:
            try:
                original(loop, *args, **kwargs)
            except OSError as error:
                if live:
                    self.explain(error)
                raise
            if live:
                self.safely(self._made, loop, _getframe(1))

        return create

    def close(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a loop's `close`, which a running loop refuses."""

        def close(loop: Any) -> None:
            if live and not loop.is_running():
                self.safely(self.release, loop)
            original(loop)

        return close

    def finalize(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a loop's `__del__`, which closes what nobody closed."""

        def finalize(loop: Any, **kwargs: Any) -> None:
            if live:
                self.safely(self.drop, loop)
            original(loop, **kwargs)

        return finalize

    def _made(self, loop: Any, frame: FrameType) -> None:
        self.note(loop, frame, unasked=_by_policy(frame))


class Selectors(Things[SelectorHandle]):
    """What stands in front of the methods of the selector that this system has."""

    make = SelectorHandle
    kind = semconv.CUSTOM

    def name(self, thing: Any) -> str:
        """Return `selector` and its class."""
        return f"selector {type(thing).__qualname__}"

    def create(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a selector's `__init__`; that of an event loop is the loop's."""

        def create(selector: Any) -> None:
            try:
                original(selector)
            except OSError as error:
                if live:
                    self.explain(error)
                raise
            frame = _getframe(1)
            if live and frame.f_globals.get("__name__") != "asyncio.selector_events":
                self.safely(self.note, selector, frame)

        return create

    def close(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a selector's `close`."""

        def close(selector: Any) -> None:
            if live:
                self.safely(self.release, selector)
            original(selector)

        return close


def _number(thing: Any) -> tuple[int, ...]:
    try:
        return () if thing is None else (thing.fileno(),)
    except (ValueError, OSError):  # closed
        return ()


def _by_policy(frame: FrameType | None) -> bool:
    for _ in range(_REACH):
        if frame is None:
            return False
        if frame.f_code.co_name == _POLICY and frame.f_globals.get("__name__") == asyncio.events.__name__:
            return True
        frame = frame.f_back
    return False


class SelectorsInstrumentor(Instrumentor):
    """Watches event loops, uvloop's too, and selectors."""

    handles = (LoopHandle, SelectorHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        loops, chosen = Loops(running.tracker), Selectors(running.tracker)
        for one in (loops, chosen):
            running.attend(one.find, one.count, one.reset)
        loop = "BaseSelectorEventLoop"
        points = [
            Point("asyncio.base_events", "BaseEventLoop.__del__", loops.finalize, "asyncio", direct=True),
            Point("asyncio.selector_events", f"{loop}.close", loops.close, "asyncio", direct=True),
            Point("asyncio.selector_events", f"{loop}.__init__", loops.create, "asyncio", direct=True),
            Point("uvloop", "Loop.run_forever", _makers.run_forever, "uvloop", direct=True),
            Point("uvloop", "Loop.close", loops.close, "uvloop", direct=True),
            Point("uvloop", "Loop.__init__", loops.create, "uvloop", direct=True),
        ]
        if hasattr(selectors.DefaultSelector, "fileno"):
            points += [
                Point("selectors", f"{_SELECTOR}.close", chosen.close, "selector", direct=True),
                Point("selectors", f"{_SELECTOR}.__init__", chosen.create, "selector", direct=True),
            ]
        return points

"""Objects that are open until somebody closes them, known by identity: loops, selectors, maps, uvloop's transports."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crawlo_otel_leaks import blame
from crawlo_otel_leaks.instrumentation._makers import Maker, origin
from crawlo_otel_leaks.instrumentation._runners import CROWD
from crawlo_otel_leaks.model import NamedHandle, Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle, Site
    from crawlo_otel_leaks.stock import Ref
    from crawlo_otel_leaks.tracker import Tracker

T = TypeVar("T", bound="ThingHandle")


class ThingHandle(NamedHandle):
    """One that is open; it may be kept for long by design, and one from a line is presumed shared."""

    __slots__ = ("cut_off", "kept", "made_by", "ref", "things")
    lasting = True
    shareable = True
    cut_off: bool
    kept: bool
    made_by: Maker
    ref: Ref
    things: Things[Any]

    def attach(self, things: Things[Any], thing: Any, made_by: Maker) -> None:
        """Refer to the object, weakly."""
        self.things, self.made_by = things, made_by
        self.shared = self.cut_off = self.kept = made_by is not Maker.PROGRAM
        self.ref = things.tracker.stock.ref(thing, things.collected)
        self.ref.key = id(thing)

    def referent(self) -> object | None:
        """Return the object while it lives."""
        return self.ref()

    def single(self) -> bool:
        """Whether no other of its line is open."""
        return self.things.alive[self.site] <= 1

    def progress(self) -> Progress:
        """Take it for used unless its line has left a crowd: its use cannot be seen."""
        return Progress(None if self.things.alive[self.site] >= CROWD else object(), visible=False)


class Things(Generic[T]):
    """Those that are open, and what stands in front of the methods that open and close them."""

    make: type[T]
    kind: str
    drops_are_ends = False
    """Whether collecting one is a way to close it, of which nobody complains."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.held: dict[int, T] = {}
        self.alive: Counter[Site] = Counter()
        """How many of each line are open."""

    def name(self, thing: Any) -> str:
        """Return what a person calls it."""
        return type(thing).__qualname__

    def note(self, thing: Any, frame: FrameType, **known: Any) -> T | None:
        """Hold a new one, made in `frame`, of which some more is known."""
        made = origin(frame, self.tracker.sites)
        handle = self.make(self.kind, self.name(thing))
        handle.attach(self, thing, made.made_by)
        for name, value in known.items():
            setattr(handle, name, value)
        if not made.acquire(self.tracker, handle, frame):
            return None
        self.held[id(thing)] = handle
        return handle

    def release(self, thing: Any) -> None:
        """Record that one is about to be closed."""
        handle = self.held.pop(id(thing), None)
        if handle is not None:
            self.tracker.release(handle)

    def drop(self, thing: Any) -> None:
        """Record that one is being collected."""
        handle = self.held.get(id(thing))
        if handle is not None:
            self._lost(handle)

    def collected(self, ref: Ref) -> None:
        """Record that one was collected."""
        handle = self.held.get(ref.key)
        if handle is not None and handle.ref is ref:
            self._lost(handle)

    def _lost(self, handle: T) -> None:
        self.held.pop(handle.ref.key, None)
        if self.drops_are_ends:
            self.tracker.release(handle)
        elif handle.made_by in (Maker.WATCHED, Maker.NOBODY):
            self.tracker.forget(handle)
        else:
            self.tracker.abandon(handle)

    def find(self, thing: object) -> Handle | None:
        """Return the handle of one."""
        handle = self.held.get(id(thing))
        return handle if handle is not None and handle.ref() is thing else None

    def count(self) -> None:
        """Count again how many of each line are open."""
        self.alive = Counter(handle.site for handle in list(self.held.values()))

    def reset(self) -> None:
        """Forget all, in a forked child."""
        self.held.clear()
        self.alive.clear()

    def explain(self, error: OSError) -> None:
        """Tell who holds the descriptors if there were none left."""
        self.safely(blame.explain, self.tracker, error)

    def safely(self, step: Callable[..., Any], *args: Any) -> None:
        """The host has what it asked for; that we cannot watch it is our failure alone."""
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self.tracker.fail(f"{type(self).__name__} {getattr(step, '__name__', '')}", error)

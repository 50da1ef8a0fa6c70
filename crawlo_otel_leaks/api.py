"""The public verbs: track and release a resource of your own, adopt it, or watch a scope."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, TypeVar

from crawlo_otel_leaks import runtime, semconv
from crawlo_otel_leaks.model import Handle, NamedHandle, Scope
from crawlo_otel_leaks.owner import current_scope

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from crawlo_otel_leaks.tracker import Tracker

T = TypeVar("T")


class _Tracked(NamedHandle):
    """A handle for any object that can be weakly referenced."""

    __slots__ = ("ref",)
    ref: weakref.ref[object]

    def referent(self) -> object | None:
        """Return the object while it lives."""
        return self.ref()


_tracked: dict[int, _Tracked] = {}


def track(obj: T, *, kind: str = semconv.CUSTOM, name: str | None = None) -> T:
    """Watch a resource of your own until `release(obj)`; return `obj` itself.

    Raise ValueError for an unknown kind and TypeError for an object that takes no weak reference
    (a list, say): its disappearance could not be seen.
    """
    if kind not in semconv.KINDS:
        raise ValueError(f"track(kind={kind!r}): expected one of {', '.join(semconv.KINDS)}")
    handle = _Tracked(kind, name if name is not None else type(obj).__qualname__)
    key = id(obj)
    running = runtime.current()

    def collected(_: object) -> None:
        _tracked.pop(key, None)
        if running is not None:
            running.tracker.abandon(handle)

    try:
        handle.ref = weakref.ref(obj, collected)
    except TypeError:
        raise TypeError(
            f"track() got {type(obj).__qualname__}, which takes no weak reference; "
            "expected an instance of a class of your own, or one with __weakref__ among its slots",
        ) from None
    if running is not None and key not in _tracked and running.tracker.acquire(handle, sys._getframe(1)):  # noqa: SLF001
        _tracked[key] = handle
        if _find not in running.finders:
            running.finders.append(_find)
    return obj


def release(obj: object) -> None:
    """Tell that a tracked resource was given back; of an object that is not tracked, nothing happens."""
    handle = _tracked.pop(id(obj), None)
    tracker = _tracker()
    if handle is not None and tracker is not None:
        tracker.release(handle)


def adopt(obj: T) -> T:
    """Let a tracked resource, a file or session of a watched library too, belong to the process; return it.

    It is then kept by design: only being collected without release is still reported.
    """
    running = runtime.current()
    handle = running.find(obj) if running else None
    if handle is not None:
        handle.process = True
    return obj


def _find(thing: object) -> Handle | None:
    handle = _tracked.get(id(thing))
    return handle if handle is not None and handle.ref() is thing else None


def _tracker() -> Tracker | None:
    running = runtime.current()
    return running.tracker if running else None


class scope:  # noqa: N801  (used as a verb: `with scope("import job"):`)
    """Watch a stretch of work, sync or async: what it takes and still holds a grace after its end is a leak."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._open: list[tuple[Scope, object]] = []

    def __enter__(self) -> Self:
        """Begin; scopes may nest, the innermost owns what is acquired."""
        outer = current_scope.get()
        opened = Scope(self.name, outer, outer.attributes if outer else {})  # within a spider run, that run's still
        self._open.append((opened, current_scope.set(opened)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; the verdict is the detector's, after the grace."""
        opened, token = self._open.pop()
        current_scope.reset(token)  # type: ignore[arg-type]  # the token of its own set
        running = runtime.current()
        if running is not None:
            running.end_scope(opened)

    async def __aenter__(self) -> Self:
        """Begin, as `__enter__`."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, as `__exit__`."""
        self.__exit__(kind, error, trace)

"""What HTTP clients keep between requests: sessions, clients, managers of pools, from creation to close."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv, sites
from crawlo_otel_leaks.instrumentation import _descriptors
from crawlo_otel_leaks.model import NamedHandle, Progress

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterable
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.stock import Ref

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]


class SessionHandle(NamedHandle):
    """A session that is not closed; what differs between libraries is in the methods that subclasses override."""

    __slots__ = ("ref", "requests")
    shareable = True
    ref: weakref.ref[Any]
    requests: int
    """How many were made through it."""

    def idle(self, session: Any) -> Iterable[Any]:
        """Yield the sockets of the connections that it keeps for the next request."""
        raise NotImplementedError

    def note_use(self, session: Any) -> None:
        """Note that a request is made through it."""
        del session
        self.requests += 1

    def missed(self) -> bool:
        """Whether something is lost when it is collected without having been closed."""
        return False

    def progress(self) -> Progress:
        """Tell use by the number of requests."""
        return Progress(self.requests, untouched=self.requests == 0)

    def descriptors(self) -> Iterable[int]:
        """Return those of its idle connections; one that is out is its response's."""
        session = self.ref()
        return () if session is None else [n for sock in self.idle(session) for n in _descriptors.of(sock)]

    def referent(self) -> object | None:
        """Return the session while it lives."""
        return self.ref()


class Sessions:
    """What stands in front of the methods of one library's sessions, and which of them are open."""

    silent = frozenset({"opentelemetry"})
    """Packages whose sessions are left out: telemetry, and those that have a watch of their own."""

    def __init__(self, running: Runtime, library: str, handle: type[SessionHandle]) -> None:
        self._tracker = running.tracker
        self._library = library
        self._handle = handle
        self._open: dict[int, SessionHandle] = {}
        running.finders.append(self.find)
        running.tracker.resets.append(self._open.clear)

    def find(self, thing: object) -> SessionHandle | None:
        """Return the handle of a session."""
        handle = self._open.get(id(thing))
        return handle if handle is not None and handle.ref() is thing else None

    def opened(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> None:
        """Stand in front of its `__init__`."""
        wrapped(*args, **kwargs)
        self.note(session, sys._getframe(1))  # noqa: SLF001

    def closed(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that closes it."""
        self.end(session)
        return wrapped(*args, **kwargs)

    def used(self, wrapped: Wrapped, session: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that makes a request."""
        self.use(session)
        return wrapped(*args, **kwargs)

    def note(self, session: object, frame: FrameType) -> None:
        """Record that one was made by the function in `frame`."""
        self._safely("open", self._note, session, frame)

    def end(self, session: object) -> None:
        """Record that it is closed; before it is."""
        handle = self._open.pop(id(session), None)
        if handle is not None:
            self._tracker.release(handle)

    def use(self, session: object) -> None:
        """Record that a request is made through it."""
        handle = self._open.get(id(session))
        if handle is not None:
            self._safely("use", self._note_use, handle, session)

    def _note_use(self, handle: SessionHandle, session: object) -> None:
        handle.note_use(session)
        self._tracker.use(handle)

    def _note(self, session: Any, frame: FrameType) -> None:
        maker = self._maker(session, frame)
        package = None if maker is None else sites.package(maker.f_code.co_filename)
        if maker is None or package in self.silent:
            self._tracker.ignored += package == "opentelemetry"
            return
        handle = self._handle(semconv.HTTP_SESSION, type(session).__qualname__)
        handle.ref, handle.requests = self._tracker.stock.ref(session, self._collected), 0
        handle.ref.key = id(session)
        if self._tracker.acquire(handle, maker) is not None:
            # What another library makes for itself is kept as long as that sees fit.
            handle.process = handle.process or bool(package)
            self._open[id(session)] = handle

    def _maker(self, session: object, frame: FrameType) -> FrameType | None:
        """Return the frame that made the session, not that of a subclass; None if the library made it on import."""
        codes = [getattr(vars(kind).get("__init__"), "__code__", None) for kind in type(session).__mro__]
        while frame.f_back is not None:
            ours = sites.package(frame.f_code.co_filename) == self._library
            if not ours and frame.f_code not in codes:
                break
            if ours and frame.f_code.co_name == "<module>":
                return None
            frame = frame.f_back
        return frame

    def _collected(self, ref: Ref) -> None:
        handle = self._open.get(ref.key)
        if handle is not None and handle.ref is ref:
            del self._open[ref.key]
            (self._tracker.abandon if handle.missed() else self._tracker.release)(handle)

    def _safely(self, where: str, step: Callable[..., None], *args: Any) -> None:
        """The host has what it asked for; that we cannot watch it is our failure alone."""
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self._tracker.fail(f"{self._library} session {where}", error)

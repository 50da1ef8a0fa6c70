"""The sockets that are open, whoever made them: from their creation to their close."""

from __future__ import annotations

import _socket
import os
import socket
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import blame, semconv
from crawlo_otel_leaks.instrumentation import _socket_names as names
from crawlo_otel_leaks.instrumentation._makers import Maker, Origin, maker, origin, ours, tool
from crawlo_otel_leaks.instrumentation._socket_handles import SocketHandle
from crawlo_otel_leaks.model import ThreadOwner
from crawlo_otel_leaks.owner import this_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle, Site
    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.stock import Ref

    Wrapped = Callable[..., Any]

_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)
_BELOW: Final = (socket.__file__, os.path.join(os.path.dirname(socket.__file__), "ssl.py"))  # noqa: PTH118, PTH120  (strings)
"""Files of the standard library through which a program accepts."""
_PAIR: Final = socket.socketpair.__code__
_LOOPS_OWN: Final = "_make_self_pipe"
_BY_PROGRAM: Final = "_sock_accept"
"""Function of asyncio's in which it accepts on behalf of the program, rather than of a server."""


class Sockets:
    """What stands in front of socket.socket's methods. A socket is known by identity, and by number if it moves."""

    def __init__(self, running: Runtime) -> None:
        self.tracker = running.tracker
        self.held: dict[int, SocketHandle] = {}
        self.alive: Counter[Site] = Counter()
        """How many of each line are open."""
        self._by_number: dict[int, SocketHandle] = {}
        self._detached: dict[int, SocketHandle] = {}
        """Handles of numbers that a socket gave away, until somebody takes them."""
        self._unnamed: dict[int, SocketHandle] = {}

    # -- wrappers ---------------------------------------------------------------------------------------

    def create(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for `socket.__init__`, through which every socket comes."""
        accept = getattr(socket.socket.accept, "__wrapped__", socket.socket.accept).__code__
        note = self.note

        def create(
            sock: Any,
            family: int = -1,
            type: int = -1,  # noqa: A002  (as above)
            proto: int = -1,
            fileno: int | None = None,
        ) -> None:
            try:
                original(sock, family, type, proto, fileno)
            except OSError as error:
                if live:
                    self.explain(error)
                raise
            if live:
                frame = _getframe(1)
                if frame.f_code is not accept:
                    try:  # as in `safely`, without a call
                        note(sock, frame, fileno)
                    except Exception as error:  # noqa: BLE001  (see there)
                        self.tracker.fail("socket create", error)

        return create

    def accept(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for `socket.accept`."""

        def accept(sock: Any) -> Any:
            try:
                taken = original(sock)
            except OSError as error:
                if live:
                    self.explain(error)
                raise
            if live:
                self.safely("accept", self._accepted, sock, taken[0], _getframe(1))
            return taken

        return accept

    def close(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for `socket._real_close`: a close, or the last one of its files'."""
        held = self.held

        old, release = self.tracker.old[semconv.SOCKET], self.tracker.release

        def close(sock: Any, _ss: Any = _socket.socket) -> None:
            handle = held.pop(id(sock), None)
            if handle is not None and live:
                try:  # as in `safely`, without a call
                    if handle in old:
                        handle.label()
                    release(handle)
                except Exception as error:  # noqa: BLE001  (see there)
                    self.tracker.fail("socket close", error)
            original(sock, _ss)

        return close

    def detach(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for `socket.detach`: the descriptor is somebody else's from now on."""

        def detach(sock: Any) -> Any:
            handle = self.held.pop(id(sock), None)
            if handle is not None and live:
                self.safely("detach", self._gave_away, handle, sock)
            return original(sock)

        return detach

    def finalizer(self, original: Any, live: list[bool]) -> Any:
        """Return what stands for `socket.__del__`."""
        return Finalizer(self, original, live)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def note(self, sock: Any, frame: FrameType, given: int | None) -> None:
        """Hold a new socket, made in `frame`; one on a `given` descriptor may be the new face of an old one."""
        number = names.fileno(sock)
        former = self._detached.pop(number, None)
        if given is None:
            former = None
        elif self._moved(sock, number) or _of_loop(frame):
            return
        made = Origin(former.made_by) if former else origin(frame, self.tracker.sites)
        handle = SocketHandle(semconv.SOCKET)
        handle.attach(self, sock, made.made_by)
        if former is not None:
            self.tracker.enter(handle, former)
        elif not made.acquire(self.tracker, handle, frame):
            return
        self._enter(handle, sock, number)

    def _moved(self, sock: Any, number: int) -> bool:
        """Whether a socket took over the descriptor of one that lives, as TLS does it."""
        before = self._by_number.get(number)
        if before is None or before.released_at is not None or number not in before.descriptors():
            return False
        self.held.pop(before.ref.key, None)
        before.refer(sock)
        self.held[id(sock)] = before
        return True

    def _accepted(self, listener: Any, sock: Any, frame: FrameType) -> None:
        while frame.f_code.co_filename in _BELOW and frame.f_back is not None:
            frame = frame.f_back
        code = frame.f_code
        if ours(code.co_filename):
            self.tracker.ignored += 1
        elif tool(code.co_filename) and code.co_name != _BY_PROGRAM:
            self._served(listener, sock, frame)
        elif maker(frame, self.tracker.sites) is Maker.PROGRAM:
            self.note(sock, frame, None)
        else:
            self._served(listener, sock, frame)

    def _served(self, listener: Any, sock: Any, frame: FrameType) -> None:
        """Hold what a server accepted: it was taken where the server was started, by nobody in particular."""
        handle = SocketHandle(semconv.SOCKET)
        handle.attach(self, sock, Maker.LIBRARY)
        handle.accepted = True
        start = self.held.get(id(listener))
        if start is not None and not self.tracker.closed:
            self.tracker.enter(handle, start)
        elif self.tracker.acquire(handle, frame) is None:
            return
        handle.span = handle.task = handle.task_name = handle.scope = None
        here = this_thread.owner
        handle.thread = ThreadOwner(0, here.name, None, is_main=here.is_main)
        number = names.fileno(sock)
        self._detached.pop(number, None)
        self._enter(handle, sock, number)

    def _enter(self, handle: SocketHandle, sock: Any, number: int) -> None:
        self.held[id(sock)] = self._by_number[number] = handle

    def _gave_away(self, handle: SocketHandle, sock: Any) -> None:
        number = names.fileno(sock)
        if number >= 0:
            self._detached[number] = handle
        self.tracker.forget(handle)

    def dropped(self, sock: Any) -> None:
        """Record that who holds a socket is being collected, and closes it now."""
        handle = self.held.pop(id(sock), None)
        if handle is not None:
            self._name(handle, sock)
            self._lost(handle)

    def collected(self, ref: Ref) -> None:
        """Record that a socket was collected; by the collector, this comes before it is finalized."""
        handle = self.held.get(ref.key)
        if handle is not None and handle.ref is ref:
            del self.held[ref.key]
            if not handle.name:
                self._unnamed[ref.key] = handle
            self._lost(handle)

    def _lost(self, handle: SocketHandle) -> None:
        if handle.blameless():
            self.tracker.forget(handle)
        else:
            self.tracker.abandon(handle)

    def finalize(self, sock: Any) -> None:
        """Name a socket that is about to be finalized, while that can be seen."""
        handle = self.held.get(id(sock)) or self._unnamed.pop(id(sock), None)
        if handle is None:
            return
        if names.fileno(sock) >= 0:
            self._name(handle, sock)
        elif self.held.pop(id(sock), None) is not None:  # closed without a word to us
            self.tracker.release(handle)

    def _name(self, handle: SocketHandle, sock: Any) -> None:
        handle.name = names.describe(sock, paths=self.tracker.capture_paths)

    def of(self, sock: object) -> SocketHandle | None:
        """Return the handle of a socket that nobody has closed."""
        return self.held.get(id(sock))

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a socket, if it is one."""
        handle = self.held.get(id(thing))
        return handle if handle is not None and handle.ref() is thing else None

    def count(self) -> None:
        """Count again how many of each line are open."""
        self.alive = Counter(handle.site for handle in self.tracker.held((semconv.SOCKET,)))

    def reset(self) -> None:
        """Forget all, in a forked child."""
        for known in (self.held, self._by_number, self._detached, self._unnamed):
            known.clear()
        self.alive.clear()

    def explain(self, error: OSError) -> None:
        """Tell who holds the descriptors if there were none left."""
        self.safely("blame", blame.explain, self.tracker, error)

    def safely(self, where: str, step: Callable[..., None], *args: Any) -> None:
        """The host has what it asked for; that we cannot watch it is our failure alone."""
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self.tracker.fail(f"socket {where}", error)


class Finalizer:
    """Stands for `socket.__del__`, so that what is dropped open has a name.

    CPython looks it up, which is when we learn of it, and then calls what it got, its own finalizer: no frame of
    ours is on the stack when the warning is issued, and so it tells the line it always told.
    """

    def __init__(self, sockets: Sockets, original: Any, live: list[bool]) -> None:
        self._sockets = sockets
        self._original = original
        self._live = live

    def __get__(self, sock: Any, owner: type | None = None) -> Any:
        """Return the finalizer of CPython's."""
        if sock is None:
            return self._original
        if self._live:
            self._sockets.safely("finalize", self._sockets.finalize, sock)
        return self._original.__get__(sock, owner)


def _of_loop(frame: FrameType) -> bool:
    """Whether an event loop makes the pair that it wakes itself with."""
    above = frame.f_back
    return frame.f_code is _PAIR and above is not None and above.f_code.co_name == _LOOPS_OWN

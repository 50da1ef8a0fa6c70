"""What stands for an open socket: it refers to the live object, and asks the kernel whether it is used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation import _socket_names as names
from crawlo_otel_leaks.instrumentation._makers import Maker
from crawlo_otel_leaks.instrumentation._references import NONE
from crawlo_otel_leaks.instrumentation._runners import CROWD
from crawlo_otel_leaks.model import NamedHandle, Progress

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterable

    from crawlo_otel_leaks.instrumentation._sockets import Sockets
    from crawlo_otel_leaks.stock import Ref


class SocketHandle(NamedHandle):
    """A socket that is open. A connection may be kept for long by design, and one from a line is presumed shared."""

    __slots__ = (
        "accepted",
        "closing",
        "cut_off",
        "kept",
        "lasting",
        "loop",
        "made_by",
        "part_of",
        "ref",
        "sockets",
        "transport",
    )
    elementary = True
    shareable = True
    accepted: bool
    """By a server, so that how long it lives is its peer's affair."""
    closing: bool
    """Whether its transport has been told to close."""
    cut_off: bool
    kept: bool
    lasting: bool
    loop: weakref.ref[Any] | None
    made_by: Maker
    ref: Ref
    sockets: Sockets
    transport: weakref.ref[Any]

    def attach(self, sockets: Sockets, sock: Any, made_by: Maker) -> None:
        """Refer to a socket; how long one lives that is not the program's own is not the program's affair."""
        self.sockets, self.made_by = sockets, made_by
        self.accepted = self.closing = False
        self.lasting = True
        self.shared = self.cut_off = self.kept = made_by is not Maker.PROGRAM
        self.loop, self.transport = None, NONE
        self.refer(sock)

    def refer(self, sock: Any) -> None:
        """Stand for this object from now on."""
        self.ref = self.sockets.tracker.stock.ref(sock, self.sockets.collected)
        self.ref.key = id(sock)

    def referent(self) -> object | None:
        """Return the socket while it lives."""
        return self.ref()

    def descriptors(self) -> Iterable[int]:
        """Return the socket's descriptor."""
        sock = self.ref()
        number = -1 if sock is None else names.fileno(sock)
        return (number,) if number >= 0 else ()

    def label(self) -> str:
        """Return what it is connected to; once it is released, what that was."""
        sock = self.ref()
        if self.released_at is None and sock is not None and names.fileno(sock) >= 0:
            self.name = names.describe(sock, paths=self.sockets.tracker.capture_paths)
        return self.name

    def single(self) -> bool:
        """Whether no other of its line is open."""
        return self.sockets.alive[self.site] <= 1

    def progress(self) -> Progress:
        """Tell use by the bytes that the kernel has counted; of what it does not count, only a crowd is evidence."""
        sock = self.ref()
        if sock is None:
            return Progress(visible=False)
        if names.fileno(sock) < 0:  # closed without a word to us
            self.sockets.tracker.release(self)
            return Progress(visible=False)
        seen = names.connection(sock)
        if seen is None or seen.state == names.LISTEN:
            return Progress(None if self.sockets.alive[self.site] >= CROWD else object(), visible=False)
        # What the peer has given up and nobody closes is of no use to anybody, however long it was meant to last.
        self.lasting = seen.state != names.CLOSE_WAIT or self.pooled()
        return Progress(seen.token, untouched=not any(seen.token))

    def busy(self) -> bool:
        """Whether it listens, is on its way to be closed, or somebody awaits what it receives or handles it."""
        sock = self.ref()
        return (
            self.closing
            or awaited(getattr(self.transport(), "_protocol", None))
            or (sock is not None and names.listens(sock))
        )

    def loop_closed(self) -> bool:
        """Whether the loop is closed that alone could have closed it."""
        return self.loop_over() and not (self.closing or self.silent())

    def loop_over(self) -> bool:
        """Whether it belonged to a loop that is closed, or gone."""
        if self.loop is None:
            return False
        loop = self.loop()
        return loop is None or bool(loop.is_closed())

    def silent(self) -> bool:
        """Whether the handles of a watched library, or nobody at all, tell what becomes of it."""
        return not self.accepted and self.made_by in (Maker.WATCHED, Maker.NOBODY)

    def blameless(self) -> bool:
        """Whether its being collected open is nobody's fault, or told by another handle."""
        return self.closing or self.silent() or (self.accepted and self.loop_over())

    def pooled(self) -> bool:
        """Whether a peer that hung up is no evidence: what is kept for the next use is opened again by then."""
        return not self.accepted and (self.made_by is not Maker.PROGRAM or self.single())


def awaited(protocol: Any) -> bool:
    """Whether somebody awaits what a protocol receives, or still handles it, as asyncio's streams show it."""
    protocol = getattr(protocol, "_app_protocol", None) or protocol  # below TLS
    reader = getattr(protocol, "_stream_reader", None)
    handler = getattr(protocol, "_task", None)
    working = isinstance(handler, asyncio.Task) and not handler.done()
    return working or getattr(reader, "_waiter", None) is not None

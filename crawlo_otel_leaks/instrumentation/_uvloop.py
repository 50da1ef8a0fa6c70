"""uvloop's transports and servers, whose sockets are made in libuv; what a server accepts there cannot be seen."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import _descriptors
from crawlo_otel_leaks.instrumentation._makers import run_forever
from crawlo_otel_leaks.instrumentation._socket_handles import awaited
from crawlo_otel_leaks.instrumentation._things import ThingHandle, Things
from crawlo_otel_leaks.instrumentation._wrapping import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    Wrapped = Callable[..., Any]

_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)
_CONNECTS: Final = ("create_connection", "create_unix_connection", "create_datagram_endpoint")
_SERVES: Final = ("create_server", "create_unix_server")


class UvHandle(ThingHandle):
    """A transport or server of uvloop's, and the loop that closes all it has when it is closed."""

    __slots__ = ("loop", "part_of")
    elementary = True
    loop: weakref.ref[Any]


class TransportHandle(UvHandle):
    """A connection, or a datagram socket."""

    __slots__ = ()

    def descriptors(self) -> Iterable[int]:
        """Return the descriptor that libuv has for it."""
        transport = self.ref()
        return () if transport is None or transport.is_closing() else _descriptors.of(transport)

    def busy(self) -> bool:
        """Whether somebody awaits what it receives."""
        transport = self.ref()
        return transport is not None and awaited(transport.get_protocol())


class ServerHandle(UvHandle):
    """A server, which is in use as long as it listens."""

    __slots__ = ()

    def descriptors(self) -> Iterable[int]:
        """Return those of its listening sockets."""
        return [number for sock in _listening(self.ref()) for number in _descriptors.of(sock)]

    def busy(self) -> bool:
        """Whether it listens."""
        return bool(_listening(self.ref()))


class UvTransports(Things[Any]):
    """What stands in front of the loop's methods that connect. Their transports live until they are closed."""

    make: type[Any] = TransportHandle
    kind = semconv.SOCKET
    drops_are_ends = True

    def name(self, thing: Any) -> str:
        """Return `tcp here -> there`, `udp ...` or `unix ...`."""
        here, there = (_place(thing.get_extra_info(name), self) for name in ("sockname", "peername"))
        kind = getattr(thing.get_extra_info("socket"), "type", 1)
        if not here.startswith("unix"):
            here = f"{'tcp' if kind == 1 else 'udp'} {here}"
        return f"{here} -> {there}" if there and not there.startswith("unix") else max(here, there, key=len)

    def create(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for a coroutine function that returns a transport and a protocol, or a server."""

        async def create(loop: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                made = await original(loop, *args, **kwargs)
            except OSError as error:
                if live:
                    self.explain(error)
                raise
            if live:
                self.safely(self._made, made, loop, _getframe(1))
            return made

        return create

    def _made(self, made: Any, loop: Any, frame: FrameType) -> None:
        self._hold(made[0], loop, frame)

    def _hold(self, thing: Any, loop: Any, frame: FrameType) -> None:
        self.note(thing, frame, loop=weakref.ref(loop))

    def over(self, thing: Any) -> bool:
        """Whether it has been told to close."""
        return bool(thing.is_closing())

    def abandon(self, thing: Any) -> None:
        """Record that whoever could have closed it is being collected."""
        handle = self.held.pop(id(thing), None)
        if handle is not None:
            self.tracker.abandon(handle)

    def count(self) -> None:
        """Release what was closed since the last tick, and count the rest."""
        for handle in list(self.held.values()):
            thing, loop = handle.ref(), handle.loop()
            if thing is not None and (loop is None or loop.is_closed() or self.over(thing)):
                self.release(thing)
        super().count()


class UvServers(UvTransports):
    """What stands in front of the loop's methods that listen."""

    make: type[Any] = ServerHandle

    def name(self, thing: Any) -> str:
        """Return `tcp listen` and where, or `unix listen` and the path."""
        places = [_place(sock.getsockname(), self) for sock in _listening(thing)]
        told = ", ".join(place.removeprefix("unix ") for place in places)
        return f"{'unix' if places and places[0].startswith('unix') else 'tcp'} listen {told}"

    def _made(self, made: Any, loop: Any, frame: FrameType) -> None:
        self._hold(made, loop, frame)

    def over(self, thing: Any) -> bool:
        """Whether it listens no more."""
        return not _listening(thing)


def _listening(server: Any) -> list[Any]:
    return list(getattr(server, "sockets", None) or ())


def _place(address: Any, things: Things[Any]) -> str:
    if not address:
        return ""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(address, bytes):
        address = "@" + address[1:].decode(errors="backslashreplace")
    return f"unix {address}" if things.tracker.capture_paths else "unix (path hidden)"


def points(transports: UvTransports, servers: UvServers) -> list[Point]:
    """Return the table."""
    return [
        Point("uvloop", "Loop.run_forever", run_forever, direct=True),
        *(Point("uvloop", f"Loop.{name}", transports.create, direct=True) for name in _CONNECTS),
        *(Point("uvloop", f"Loop.{name}", servers.create, direct=True) for name in _SERVES),
    ]

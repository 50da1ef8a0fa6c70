"""What stands for httpx's clients and the slots of httpcore's pools, and how their use is seen."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.instrumentation import _descriptors, _traffic
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._http_sessions import SessionHandle
from crawlo_otel_leaks.model import Progress
from crawlo_otel_leaks.owner import running_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crawlo_otel_leaks.instrumentation._httpx_pools import Slots

_LAYERS: Final = 5
"""How deep a connection may be wrapped: the pool's, a proxy's, HTTP/1.1 or 2, the network's stream."""


class SlotHandle(ConnectionHandle):
    """A request's place on a connection of a pool, from the moment it is assigned one until its response is closed.

    What is referred to is the pool's own note of the request, which stays in the pool for as long.
    """

    __slots__ = ("_loop", "home", "lost", "name", "stream")
    watch: Slots
    name: str
    """The origin that it asks: its pool's connections go to many."""
    _loop: weakref.ref[Any] | None
    lost: weakref.ref[Any] | None
    """The connection, where the request was cut off and left it to nobody; ..."""
    home: weakref.ref[Any] | None
    """... and the library's pool that has it."""
    stream: weakref.ref[Any] | None
    """The response's stream, once there is one."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.name = ""
        self._loop = self.home = self.lost = self.stream = None

    def bind(self) -> None:
        """Note the loop that runs now."""
        self._loop = this_loop()

    def progress(self) -> Progress:
        """Tell use by what came in and was read."""
        if self.lost is not None:
            self.watch.look_for(self)
            return Progress()
        connection = self._connection()
        token = _read(connection, self.stream() if self.stream else None)
        return Progress(token, visible=token is not None)

    def descriptors(self) -> Iterable[int]:
        """Return the descriptor of the socket below."""
        return _descriptors.of(network(self._connection()))

    def loop_closed(self) -> bool:
        """Whether the loop is closed, or gone, in which alone its response could be closed."""
        return closed(self._loop)

    def _connection(self) -> Any:
        return self.lost() if self.lost else getattr(self.referent(), "connection", None)


class ClientHandle(SessionHandle):
    """A Client that is not closed. Collected so, it leaves to the loop, or to a warning, what its pools had open."""

    __slots__ = ("_loop", "_pooled")
    _loop: weakref.ref[Any] | None
    _pooled: bool

    def __init__(self, kind: str, name: str = "") -> None:
        super().__init__(kind, name)
        self._loop, self._pooled = this_loop(), False

    def note_use(self, session: Any) -> None:
        """Note that a request is made, in the loop that runs now; a mocked transport has no connections."""
        super().note_use(session)
        self._pooled = self._pooled or any(True for _ in _pools(session))
        loop = running_loop()
        if loop is not None and (self._loop is None or self._loop() is not loop):
            self._loop = weakref.ref(loop)

    def missed(self) -> bool:
        """Whether it ever had connections."""
        return self._pooled

    def idle(self, session: Any) -> Iterable[Any]:
        """Yield the network streams of the connections that its pools keep."""
        kept = (one for pool in _pools(session) for one in pool.connections)
        return [network(connection) for connection in kept if connection.is_idle()]

    def loop_closed(self) -> bool:
        """Whether the loop of its latest request is closed."""
        return self._pooled and closed(self._loop)


def this_loop() -> weakref.ref[Any] | None:
    """Return a reference to asyncio's running loop, None outside of one."""
    loop = running_loop()
    return None if loop is None else weakref.ref(loop)


def closed(ref: weakref.ref[Any] | None) -> bool:
    """Whether a loop is closed or gone; False where there was none."""
    if ref is None:
        return False
    loop = ref()
    return loop is None or bool(loop.is_closed())


def network(connection: Any) -> Any:
    """Return the network's stream below a connection, None before there is one."""
    for _ in range(_LAYERS):
        stream = getattr(connection, "_network_stream", None)
        if stream is not None or connection is None:
            return stream
        connection = getattr(connection, "_connection", None)
    return None


def _pools(client: Any) -> Iterator[Any]:
    """Yield the pools of a client's transports; transports without sockets have none."""
    transports = [getattr(client, "_transport", None), *list(getattr(client, "_mounts", {}).values())]
    pools = (getattr(transport, "_pool", None) for transport in transports)
    return (pool for pool in pools if hasattr(pool, "connections"))


def _read(connection: Any, stream: Any) -> object:
    """Return a token of what came in and was read: of HTTP/1.1 on the socket, of HTTP/2 in the response's stream."""
    inner = _inner(connection)
    http2 = getattr(inner, "_h2_state", None)
    if http2 is not None:
        number = getattr(getattr(stream, "_stream", None), "_stream_id", None)
        window = getattr(http2.streams.get(number), "_inbound_window_manager", None)
        waiting = getattr(inner, "_events", {}).get(number, ())
        return None if number is None else (getattr(window, "current_window_size", None), len(waiting))
    http1 = getattr(inner, "_h11_state", None)
    reader, buffer = getattr(http1, "_reader", None), getattr(http1, "_receive_buffer", ())
    left = tuple(getattr(reader, name, None) for name in ("_remaining", "_bytes_in_chunk"))
    below = network(connection)
    received = None if below is None else _traffic.received(below.get_extra_info("socket"))
    return None if received is None else (received, left, len(buffer))


def _inner(connection: Any) -> Any:
    """Return what speaks HTTP below a connection."""
    for _ in range(_LAYERS):
        if connection is None or hasattr(connection, "_network_stream"):
            return connection
        connection = getattr(connection, "_connection", None)
    return None

"""What a library says of its pools and connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation import _descriptors
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle

if TYPE_CHECKING:
    from types import FrameType

    from crawlo_otel_leaks.pool import Limits


class PoolFacts:
    """What differs from library to library is in the methods that subclasses override."""

    kind: str
    use_is_seen = False
    """Whether a connection is known to be idle although `used` cannot say."""
    handle: type[ConnectionHandle] = ConnectionHandle

    def name(self, pool: Any) -> str:
        """Return the pool's name: the program's own, else `server:port/namespace`; never a secret."""
        raise NotImplementedError

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes."""
        raise NotImplementedError

    def new_handle(self, frame: FrameType) -> ConnectionHandle:
        """Return a handle for what the function in `frame` is asking for."""
        del frame
        return self.handle(self.kind)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether the pool had none left, rather than the server having failed."""
        raise NotImplementedError

    def silent(self) -> frozenset[str]:
        """Return the metrics that the library, or another instrumentation, emits itself."""
        return frozenset()

    def working(self, connection: Any) -> bool:
        """Whether a command runs on the connection right now."""
        del connection
        return False

    def used(self, connection: Any) -> object:
        """Return a token that differs once the connection was used again, None if nothing tells."""
        del connection
        return None

    def socket(self, connection: Any) -> Any:
        """Return what has the connection's descriptor: a socket, a transport, a writer; None if it cannot be seen."""
        return _descriptors.below(connection)

    def loop(self, connection: Any) -> Any:
        """Return the event loop that an asyncio connection belongs to."""
        return getattr(connection, "_loop", None)

    def closed(self, connection: Any) -> bool:
        """Whether a connection is closed, whoever closed it."""
        del connection
        return False

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether the pool still counts a connection as out, after a release that did not come through."""
        del pool, connection
        return False

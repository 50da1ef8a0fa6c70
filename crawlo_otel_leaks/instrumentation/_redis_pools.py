"""What stands in front of the pools, and of those who wait on a connection, of redis-py and valkey-py."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import _traffic
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.model import Progress
from crawlo_otel_leaks.owner import span_finished
from crawlo_otel_leaks.pool import Limits, Pool

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_OBSERVABILITY: Final = ("observability", "asyncio.observability")
_COLLECTORS: Final = ("_metrics_collector", "_async_metrics_collector")
_UNLIMITED: Final = 2**31
"""What both libraries have for a limit where the program sets none."""
_KEEPERS: Final = frozenset({"__init__", "initialize"})
_OF_NODES: Final = ("execute_command", "execute_pipeline")


class RedisHandle(ConnectionHandle):
    """A connection that is out of its pool, perhaps with a subscription, a monitor or a watched pipeline."""

    __slots__ = ("inside", "last", "orphaned", "uses")

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.uses = 0
        self.inside = 0
        self.last: object = None
        self.orphaned = False

    def progress(self) -> Progress:
        """Tell use by the calls of who listens, and by the bytes that were sent."""
        connection = self.referent()
        token = (self.uses, None if connection is None else self.watch.used(connection))
        if self.orphaned and token != self.last:
            self.shared = True  # by somebody else, then
        self.last, self.orphaned = token, self.span is not None and span_finished(self.span)
        return Progress(token, untouched=self.uses == 0)

    def busy(self) -> bool:
        """Whether somebody waits on it: for a message, perhaps for hours."""
        return self.inside > 0 or super().busy()


class ClientHandle(RedisHandle):
    """The one connection that a `single_connection_client` keeps for all its life, as sessions live."""

    __slots__ = ()
    lasting = True
    shareable = True


class RedisWatch(PoolWatch):
    """Pools of redis-py or valkey-py, by the name of the package."""

    kind = semconv.REDIS_CONNECTION
    handle = RedisHandle
    known_by: str | None = None
    """The attribute of a pool that stands for it."""

    def __init__(self, running: Runtime, package: str) -> None:
        super().__init__(running)
        self._package = package
        self._clients = (f"{package}.client", f"{package}.asyncio.client")
        made: Any = weakref.WeakKeyDictionary()
        self._made = made
        """When each connection that is being opened was begun. `data`, the plain dictionary within, is quick to ask."""

        quick = ("begin", "begin_above", "got", "gave_back", "let_go", "_end")
        self.quicken(*quick, askers=_KEEPERS, aside=made.data, known_by=self.known_by)

    def name(self, pool: Any) -> str:
        """Return `host:port/db`, or the socket's path; of a sentinel's pool, its service."""
        settings = pool.connection_kwargs
        place = settings.get("path") or getattr(pool, "service_name", None)
        host = getattr(pool, "host", None) or settings.get("host", "localhost")
        port = getattr(pool, "port", None) or settings.get("port", 6379)
        return f"{place or f'{host}:{port}'}/{settings.get('db') or 0}"

    def limits(self, pool: Any) -> Limits:
        """Return the pool's sizes."""
        idle = getattr(pool, "_available_connections", None)
        if idle is None:
            queue = getattr(pool, "pool", None)
            idle = [one for one in list(getattr(queue, "queue", ())) if one is not None]
        return _sizes(pool.max_connections, len(idle))

    def new_handle(self, frame: FrameType) -> RedisHandle:
        """Return a handle; what a client takes for itself alone it takes where it is made or first used."""
        code = frame.f_code
        keeps = code.co_name in _KEEPERS and (
            code.co_name == "initialize" or "single_connection_client" in code.co_varnames
        )
        kept = keeps and frame.f_globals.get("__name__") in self._clients
        return (ClientHandle if kept else RedisHandle)(self.kind)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether the pool had none left; some releases tell that by the text alone."""
        del pool
        name, text = type(error).__name__, str(error)
        none_left = text.startswith(("Too many connections", "No connection available"))
        return name == "MaxConnectionsError" or (name == "ConnectionError" and none_left)

    def silent(self) -> frozenset[str]:
        """Return what the observability of redis-py 7.1 and newer emits, once and as far as it is switched on."""
        recorders = (sys.modules.get(f"{self._package}.{where}.recorder") for where in _OBSERVABILITY)
        known = [getattr(one, name, None) for one in recorders for name in _COLLECTORS]
        instruments = (each for one in known if one is not None for each in list(vars(one).values()))
        return semconv.POOL_METRICS.intersection(getattr(each, "name", None) for each in instruments)

    def working(self, connection: Any) -> bool:
        """Whether a task awaits an answer on it; of a thread that does, its stack tells."""
        return getattr(getattr(connection, "_reader", None), "_waiter", None) is not None

    def used(self, connection: Any) -> object:
        """Return how many bytes were sent on it; what comes in, comes unread too."""
        writer = getattr(connection, "_writer", None)
        sock = writer.get_extra_info("socket") if writer else getattr(connection, "_sock", None)
        return _traffic.sent(sock)

    def socket(self, connection: Any) -> Any:
        """Return the socket, or asyncio's writer."""
        return getattr(connection, "_sock", None) or getattr(connection, "_writer", None)

    def loop(self, connection: Any) -> Any:
        """Return the loop of asyncio's writer."""
        return getattr(getattr(connection, "_writer", None), "_loop", None)

    def out(self, pool: Any, connection: Any) -> bool:
        """Whether the pool still counts a connection as out, after a release that did not come through."""
        return connection in getattr(pool, "_in_use_connections", ())

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a connection, or of the client, pipeline or subscription that has it."""
        if type(thing).__module__.startswith(f"{self._package}."):
            thing = getattr(thing, "connection", None) or thing
        return super().find(thing)

    # -- wrappers ---------------------------------------------------------------------------------------

    def make(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that makes a connection, not open yet, for who is acquiring one."""
        del pool
        began = self.tracker.clock()
        connection = wrapped(*args, **kwargs)
        self._made[connection] = began
        return connection

    def use(self, wrapped: Wrapped, user: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of what sends or reads on the connection that a subscription, say, keeps."""
        handle = self._used(user)
        if handle is None:
            return wrapped(*args, **kwargs)
        handle.inside += 1
        try:
            return wrapped(*args, **kwargs)
        finally:
            handle.inside -= 1

    def use_async(self, wrapped: Wrapped, user: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a coroutine that does so."""
        handle = self._used(user)
        using = wrapped(*args, **kwargs)
        return using if handle is None else _within(handle, using)

    def disconnect(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's method, or coroutine, that closes its connections, those that are out too."""
        if args[0] if args else kwargs.get("inuse_connections", True):
            self.safely("disconnect", self.closed_by_pool, pool)
        return wrapped(*args, **kwargs)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def enter(self, pool: Pool, connection: Any, handle: ConnectionHandle) -> None:
        """Hold a connection that somebody got; if it was made for that, it is open now."""
        began = self._take_made(connection) if self._made.data else None
        if began is not None:
            pool.creations.append(self.tracker.clock() - began)
        super().enter(pool, connection, handle)

    def gave_back(self, connection: object) -> None:
        """Record a release, perhaps of one that could not be opened."""
        if self._made.data:
            self._take_made(connection)
        super().gave_back(connection)

    def let_go(self, connection: object) -> ConnectionHandle | None:
        """Return the handle of what is being given back, perhaps of one that could not be opened."""
        if self._made.data:
            self._take_made(connection)
        return super().let_go(connection)

    def _take_made(self, connection: Any) -> float | None:
        return self._made.pop(connection, None) if self._made.data and connection is not None else None

    def _used(self, user: Any) -> RedisHandle | None:
        connection = getattr(user, "connection", None)
        handle = None if connection is None else super().find(connection)
        if not isinstance(handle, RedisHandle):
            return None
        handle.uses += 1
        self.safely("use", self.tracker.use, handle)
        return handle

    def closed_by_pool(self, pool: Any) -> None:
        """Record that what is out holds no socket any more; the pool stays charged for it until it is given back."""
        known = self.pools.known(pool)
        for handle in list(known.held) if known else ():
            self.tracker.release(handle)


class NodeWatch(RedisWatch):
    """The nodes of an asyncio cluster, each of which keeps connections of its own instead of a pool."""

    known_by = "_free"

    def acquire(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of taking one, unless by a node's own method that puts it back past `release`, as up to 7."""
        code = sys._getframe(1).f_code  # noqa: SLF001
        if code.co_name in _OF_NODES and "release" not in code.co_names:
            return wrapped(*args, **kwargs)
        return super().acquire(wrapped, pool, args, kwargs)

    def pool_of(self, thing: Any) -> Pool:
        """Return what stands for a node, by its free connections: the node itself takes no weak reference."""
        name = f"{thing.host}:{thing.port}/0"
        return self.pools.of(thing._free, lambda free: self._node(name, weakref.ref(free)))  # noqa: SLF001

    def closed_by_pool(self, pool: Any) -> None:
        """Record that a node has closed what is out."""
        super().closed_by_pool(pool._free)  # noqa: SLF001  (see above)

    def _node(self, name: str, ref: weakref.ref[deque[Any]]) -> Pool:
        def read() -> Limits | None:
            free = ref()
            return None if free is None else _sizes(free.maxlen, len(free))

        return self.pool_named(name, read)


def _sizes(most: int | None, idle: int) -> Limits:
    limit = most if most is not None and most < _UNLIMITED else None
    return Limits(max=limit, idle=idle, idle_max=limit)


async def _within(handle: RedisHandle, using: Awaitable[Any]) -> Any:
    handle.inside += 1
    try:
        return await using
    finally:
        handle.inside -= 1

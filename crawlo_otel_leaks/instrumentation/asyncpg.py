# ruff: noqa: SLF001  (what is watched are the inner parts of the library)
"""asyncpg: connections out of its pools, and those that a program opens itself."""

from __future__ import annotations

import asyncio
import sys
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.instrumentation._postgres import (
    OpenedHandle,
    PooledHandle,
    PostgresConnections,
    PostgresWatch,
    target,
)
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.owner import running_task
from crawlo_otel_leaks.pool import Limits, Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

_asked: Final[ContextVar[Any]] = ContextVar("crawlo_leaks_asyncpg_asked", default=(None,))
"""In a list of its own, the handle of who called `Pool.acquire`, and then waits for the holder that is acquired below.

What awaits it may be a task of asyncio's own, in which nobody's code runs, and what acquires the holder an inner one.
The list is emptied where there is a connection: the contexts of that connection's callbacks have it, too.
"""


class _Pooled(PooledHandle):
    """A pool's connection. The program's own object is the proxy around it, which takes no weak reference."""

    __slots__ = ("waits",)

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.waits = False

    def referent(self) -> object | None:
        """Return the proxy, which the connection names while it is out."""
        return getattr(super().referent(), "_proxy", None)


class _Opened(OpenedHandle):
    """A connection that the program opened itself, in an event loop."""

    __slots__ = ()


class AsyncpgPools(PostgresWatch):
    """Pools. A connection is held from its holder's acquisition to its holder's release.

    Between the two, an `acquire` may be cut off in such a way that nobody gets the connection (#467, #547).
    """

    handle = _Pooled

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self.quicken("ask", "wait_for", "got", "gave_back", "note_use", known_by="_queue")
        if self._swift is not None:
            self.tracker.chores.append(self._swift.tidy)

    def name(self, pool: Any) -> str:
        """Return `host:port/database`."""
        return target(next(iter(pool._connect_args), None), pool._connect_kwargs)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether none came free in time, or the server has no more."""
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return bool(pool._queue.empty())
        return _too_many(error)

    def working(self, connection: Any) -> bool:
        """Whether a prepared statement runs on it."""
        return _working(connection)

    def used(self, connection: Any) -> object:
        """Return how many queries it has run."""
        return _queries(connection)

    def call(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for `Pool.acquire`, which only makes something to await."""

        def acquire(pool: Any, *args: Any, **kwargs: Any) -> Any:
            if live:
                _asked.set([self.ask(sys._getframe(1))])
            return original(pool, *args, **kwargs)

        return acquire

    def wait(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for the coroutine function that waits for a holder to come free."""

        async def waiting(pool: Any, *args: Any, **kwargs: Any) -> Any:
            handle = self.begin(pool, sys._getframe(1))
            mine = [handle]
            _asked.set(mine)
            try:
                connection = await original(pool, *args, **kwargs)
            except BaseException as error:
                self.waited(pool, handle, error)
                raise
            finally:
                mine[0] = None
            self.waited(pool, handle, None)
            return connection

        def _acquire(pool: Any, *args: Any, **kwargs: Any) -> Any:
            # It is not initialized, which the library says best; or one is there.
            if not live or pool._queue is None or self.begun_at_once(pool):
                return original(pool, *args, **kwargs)
            return waiting(pool, *args, **kwargs)

        return _acquire

    def begun_at_once(self, pool: Any) -> bool:
        """Begin to wait where that is over at once, and nobody else's failure can come between."""
        try:
            handle = _asked.get()[0]
            if handle is None or handle.waits or handle.task is None or handle.task() is not running_task():
                return False
            free = pool._queue._queue
            if not free or not _is_ready(free[-1], pool):
                return False
            handle.acquired_at, handle.pool, handle.waits = self.tracker.clock(), self.pool_of(pool), True
        except Exception as error:  # noqa: BLE001  (it is begun the long way)
            self.failed("wait", error)
            return False
        return True

    def hold(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for the making of a proxy; what its pool acquires for itself is not watched."""

        def made(proxy: Any, *args: Any, **kwargs: Any) -> None:
            original(proxy, *args, **kwargs)
            asked = _asked.get()
            if live and asked[0] is not None and asked[0].waits:
                handle, asked[0] = asked[0], None
                self.got(handle, proxy._con)

        return made

    def give_back(self, original: Wrapped, live: list[bool]) -> Wrapped:
        """Return what stands for the one method in which each hold ends, also that of a lost connection."""

        def _release(holder: Any) -> Any:
            if live:
                self.gave_back(holder._con)
            return original(holder)

        return _release

    def begin(self, thing: Any, frame: FrameType) -> ConnectionHandle | None:
        """Let what was located at the call wait, unless it is another task of the program's that awaits it."""
        origin, task = _asked.get()[0], running_task()
        handle: Any
        if origin is None or origin.task is None or not (origin.task() is task or _is_asyncios(task)):
            handle = super().begin(thing, frame)
        else:
            handle = self.wait_for(thing, self._another(origin) if origin.waits else origin)
        if handle is not None:
            handle.waits = True
        return handle  # type: ignore[no-any-return]  # a `_Pooled`

    def _another(self, origin: _Pooled) -> _Pooled:
        """Return a handle for one more of several that were asked for in one context, as `gather` awaits them."""
        handle = _Pooled(origin.kind)
        self.tracker.move(handle, origin)
        return handle

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a proxy, or of the connection in it."""
        connection = thing._con if type(thing).__name__ == "PoolConnectionProxy" else thing  # type: ignore[attr-defined]
        handle = self._handles.get(id(connection))
        return handle if handle is not None and handle.connection and handle.connection() is connection else None

    def pool_of(self, pool: Any) -> Pool:
        """Return the tracker's pool, by the library's queue: its pool takes no weak reference."""
        return self.pools.of(
            pool._queue,
            lambda queue: self.new_pool(pool, _sizes(queue, pool.get_min_size())),
        )


class AsyncpgConnections(PostgresConnections):
    """Connections that the program opened itself."""

    handle = _Opened

    def refused(self, thing: Any, error: BaseException) -> bool:
        """Whether the server has no more."""
        del thing
        return _too_many(error)

    def working(self, connection: Any) -> bool:
        """Whether a prepared statement runs on it."""
        return _working(connection)

    def used(self, connection: Any) -> object:
        """Return how many queries it has run."""
        return _queries(connection)

    def closed(self, connection: Any) -> bool:
        """Whether it is closed, by whichever side."""
        return bool(connection.is_closed())


class AsyncpgInstrumentor(Instrumentor):
    """Watches asyncpg 0.27 and later."""

    library = "asyncpg"
    requires = "asyncpg >= 0.27"
    handles = (_Pooled, _Opened)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        pools, opened = AsyncpgPools(running), AsyncpgConnections(running)

        def use(original: Wrapped, live: list[bool]) -> Wrapped:
            note_pooled, note_opened = pools.note_use, opened.note_use

            def _check_open(connection: Any) -> Any:
                if live and not note_pooled(connection):
                    note_opened(connection)
                return original(connection)

            return _check_open

        give_back = pools.way("give_back", pools.give_back, "_con")
        hold = pools.way("hold", pools.hold, _asked)
        return [
            Point("asyncpg.pool", "PoolConnectionHolder._release", give_back, "pool", direct=True),
            Point("asyncpg.pool", "PoolConnectionProxy.__init__", hold, "pool", direct=True),
            Point("asyncpg.pool", "Pool._acquire", pools.way("wait", pools.wait, _asked), "pool", direct=True),
            Point("asyncpg.pool", "Pool.acquire", pools.way("ask", pools.call), "pool", direct=True),
            Point("asyncpg.pool", "Pool._get_new_connection", pools.create_async, "pool"),
            Point("asyncpg.connection", "Connection._cleanup", opened.close, "connection"),
            Point("asyncpg.connection", "Connection.__del__", opened.drop, "connection"),
            Point("asyncpg.connection", "Connection._check_open", pools.way("use", use), "connection", direct=True),
            Point("asyncpg.connection", "connect", opened.connect_later, "connection"),
            Point("asyncpg", "connect", opened.connect_later, "connection"),
        ]


def _sizes(queue: Any, least: int) -> Callable[[], Limits | None]:
    ref = weakref.ref(queue)

    def read() -> Limits | None:
        free = ref()  # every holder that is not out is in it
        if free is None:
            return None
        idle = sum(holder.is_connected() for holder in list(free._queue))
        return Limits(max=free.maxsize, idle=idle, idle_min=least, idle_max=free.maxsize)

    return read


def _is_ready(holder: Any, pool: Any) -> bool:
    """Whether a holder's connection is lent as it is."""
    open_ = holder._con is not None and not holder._con.is_closed()
    return open_ and bool(holder._generation == pool._generation)


def _queries(connection: Any) -> object:
    return getattr(getattr(connection, "_protocol", None), "queries_count", None)


def _working(connection: Any) -> bool:
    return bool(getattr(getattr(connection, "_stmt_exclusive_section", None), "_acquired", False))


def _is_asyncios(task: asyncio.Task[Any] | None) -> bool:
    """Whether asyncio made the task around an awaitable, as `wait_for` and `gather` do."""
    coroutine = task.get_coro() if task is not None else None
    return getattr(coroutine, "__name__", "") == "_wrap_awaitable"


def _too_many(error: BaseException) -> bool:
    return getattr(error, "sqlstate", None) == "53300"

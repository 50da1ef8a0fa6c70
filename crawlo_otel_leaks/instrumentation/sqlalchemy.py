"""SQLAlchemy: connections out of the pools of engines, sync and asyncio."""

from __future__ import annotations

import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import wrapt

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import _engines
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pools import PoolWatch
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.instrumentation.sqlite3 import database_name
from crawlo_otel_leaks.pool import Limits

if TYPE_CHECKING:
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.runtime import Runtime

_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_BETWEEN: Final = ("sqlalchemy.", "opentelemetry.", "wrapt.")
_LIMIT_REACHED: Final = "3o7r"
"""SQLAlchemy's own code for the pool's TimeoutError."""
_POOL: Final = "_ConnectionRecord__pool"
_ACTIVE: Final = 1
"""libpq's state of a connection on which a command runs."""


class PooledHandle(ConnectionHandle):
    """A connection that was taken out of an engine's pool, by way of SQLAlchemy's proxy of it."""

    __slots__ = ()


class EngineWatch(PoolWatch):
    """Pools of engines. Events tell every end but the plain one; that, and who waits for what, wrappers tell.

    Handles go by the identity of the driver's connection, which is what every event names.
    """

    kind = semconv.DB_CONNECTION
    handle = PooledHandle

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._shared: type | tuple[()] = ()
        self.quicken("begin", "got", "ended", inside="dbapi_connection", ended=self.ended)

    # -- what the library says of itself ------------------------------------------------------------------

    def _make(self, thing: Any) -> Pool:
        pool = super()._make(thing)
        pool.stacked = not _is_async(thing)
        return pool

    def name(self, pool: Any) -> str:
        """Return the program's own name for the pool, else `host:port/database`, or the file of SQLite."""
        own: str | None = getattr(pool, "_orig_logging_name", None)
        return own or self._names.get(pool._dialect) or _engines.stand_in(pool)  # noqa: SLF001  (no public name)

    def limits(self, pool: Any) -> Limits:
        """Return the sizes of a pool that has some. Its own methods would take its lock."""
        queue = vars(pool).get("_pool")
        if queue is None:
            return Limits(max=1 if hasattr(pool, "_checked_out") else None)
        size, overflow = queue.maxsize, pool._max_overflow  # noqa: SLF001  (no public name)
        idle = getattr(queue, "queue", ())
        if not hasattr(queue, "queue"):  # made when it is first used, in the loop that uses it
            idle = getattr(vars(queue).get("_queue"), "_queue", ())
        bounded = size > 0 and overflow >= 0
        return Limits(max=size + overflow if bounded else None, idle=len(idle), idle_max=size or None)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """Whether the pool had none left."""
        del pool
        single = isinstance(error, AssertionError) and str(error).startswith("connection is already checked out")
        return single or getattr(error, "code", None) == _LIMIT_REACHED

    def working(self, connection: Any) -> bool:
        """Whether a command runs, as the adapter of asyncpg or aiomysql, psycopg or psycopg2 show it."""
        driver = _engines.driver(connection)
        lock = getattr(connection.dbapi_connection, "_execute_mutex", None) or getattr(driver, "lock", None)
        if lock is not None:
            return bool(lock.locked())
        status = getattr(driver, "get_transaction_status", None)
        return status is not None and status() == _ACTIVE

    def used(self, connection: Any) -> object:
        """Return what the driver counts: asyncpg its queries, others nothing."""
        protocol = getattr(_engines.driver(connection), "_protocol", None)
        return getattr(protocol, "queries_count", None)

    def socket(self, connection: Any) -> Any:
        """Return what has the descriptor of the driver's connection."""
        return None if connection is None else super().socket(_engines.driver(connection))

    def loop(self, connection: Any) -> Any:
        """Return the loop of the driver's connection."""
        return None if connection is None else getattr(_engines.driver(connection), "_loop", None)

    # -- wrappers -----------------------------------------------------------------------------------------

    def connect(self, original: Any, live: list[bool]) -> Any:
        """Return what stands for what takes a connection out; the one of a StaticPool is shared by design."""

        def connect(pool: Any) -> Any:
            if not live or isinstance(pool, self._shared):
                return original(pool)
            frame = sys._getframe(1)  # noqa: SLF001
            handle = self.begin(pool, _asker(frame) if _is_async(pool) else frame)
            try:
                connection = original(pool)
            except BaseException as error:
                self.waited(pool, handle, error)
                raise
            self.got(handle, connection)
            return connection

        return connect

    def taken_back(self, original: Any, live: list[bool]) -> Any:
        """Return what stands for what takes a connection back: the library's event for it costs more than that."""

        def checkin(record: Any, *args: Any, **kwargs: Any) -> Any:
            if live:
                self.safely("checkin", lambda: self.ended(record.dbapi_connection, record))
            return original(record, *args, **kwargs)

        return checkin

    def made(self, wrapped: Any, engine: Any, args: Any, kwargs: Any) -> Any:
        """Stand in front of an engine's `__init__`: its URL names its pools."""
        wrapped(*args, **kwargs)
        self.safely("engine", self._name_engine, engine)

    def _name_engine(self, engine: Any) -> None:
        name = self._name_of(engine.url)
        if name:
            self._names[engine.dialect] = name

    def _name_of(self, url: Any) -> str | None:
        backend = url.get_backend_name()
        if backend == "sqlite":
            return database_name(url.database, paths=self.tracker.capture_paths)
        port = url.port or _PORTS.get(backend)
        return f"{url.host}{f':{port}' if port else ''}/{url.database or ''}" if url.host else None

    # -- events -------------------------------------------------------------------------------------------

    def listeners(self) -> list[tuple[str, Any]]:
        """Return the table of pool events."""
        return [
            ("invalidate", self.ended),
            ("close_detached", self.ended),
            ("detach", self.detached),
            ("connect", self.opened),
        ]

    def listen(self, library: Any) -> None:
        """Hear the events of all pools."""
        self._shared = library.pool.StaticPool
        for name, listener in self.listeners():
            library.event.listen(library.pool.Pool, name, listener)

    def hush(self) -> None:
        """Hear them no more."""
        library: Any = sys.modules.get("sqlalchemy")
        for name, listener in self.listeners() if library else ():
            if library.event.contains(library.pool.Pool, name, listener):
                library.event.remove(library.pool.Pool, name, listener)

    def ended(self, connection: Any, record: Any = None, *_: Any) -> None:
        """Hear that a connection goes back or is closed, also out of the finalizer of a proxy that was dropped.

        An asyncio pool drops one whose proxy was collected, where others take it back.
        """
        handle = self._handles.get(id(connection))
        if handle is not None and handle.referent() is None and _is_async(getattr(record, _POOL, None)):
            self.dropped(connection)
        else:
            self.gave_back(connection)

    def detached(self, connection: Any, *_: Any) -> None:
        """Hear that the pool gave up a connection: for the program, which then owns it, or as nobody has it."""
        key = id(connection)
        handle = self._handles.get(key)
        if handle is None:
            return
        proxy = handle.referent()
        if proxy is None:
            self.dropped(connection)
        else:
            handle.pool.held.pop(handle, None)
            handle.connection = weakref.ref(proxy, lambda _: self._collected(key, handle))

    def opened(self, connection: Any, record: Any) -> None:
        """Hear that a pool opened one more connection."""
        self.safely("connect", self._opened, connection, record)

    def _opened(self, connection: Any, record: Any) -> None:
        library = getattr(record, _POOL, None)
        if library is None or isinstance(library, self._shared):
            return
        pool = self.pool_of(library)
        pool.creations.append(max(0.0, time.time() - record.starttime))
        if pool.name == _engines.stand_in(library):
            pool.name = _engines.server(connection) or pool.name

    # -- bookkeeping --------------------------------------------------------------------------------------

    def enter(self, pool: Pool, connection: Any, handle: ConnectionHandle) -> None:
        """Hold what a proxy stands for; in a SingletonThreadPool it may be held already."""
        key = id(connection.dbapi_connection)
        known = self._handles.get(key)
        if known is not None and known.referent() is connection:
            return
        if known is not None:  # whose end nothing told
            self._end(known)
        handle.pool = pool
        # No callback: the library's own takes the connection back, and its events tell of that.
        handle.connection = weakref.ref(connection)
        self.tracker.hold(handle)
        self._handles[key] = handle
        pool.held[handle] = None

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a connection, a session or either's asyncio form, a proxy, or a driver's connection."""
        proxies: list[object] = []
        self.safely("find", lambda: proxies.extend(one for one in _engines.proxies(thing) if one is not None))
        for handle in list(self._handles.values()):
            proxy: Any = handle.referent()
            names = () if proxy is None else (proxy, proxy.dbapi_connection, _engines.driver(proxy))
            if any(thing is name for name in names) or any(proxy is one for one in proxies):
                return handle
        return None


def _is_async(pool: Any) -> bool:
    return pool is not None and bool(pool._dialect.is_async)  # noqa: SLF001  (no public name)


def _asker(frame: FrameType) -> FrameType:
    """Return the frame to look for the site from: an async engine's stack begins in a greenlet, whose parent asked."""
    step: FrameType | None = frame
    while step is not None:
        if not str(step.f_globals.get("__name__")).startswith(_BETWEEN):
            return frame
        step = step.f_back
    greenlet = sys.modules.get("greenlet")
    parent = greenlet.getcurrent().parent if greenlet else None
    return getattr(parent, "gr_frame", None) or frame


class SqlAlchemyInstrumentor(Instrumentor):
    """Watches SQLAlchemy 1.4.24 and later."""

    library = "sqlalchemy"
    requires = "SQLAlchemy >= 1.4.24"  # from there on, proxies name the driver's connection
    handles = (PooledHandle,)

    _watch: EngineWatch | None = None

    def points(self, running: Runtime) -> list[Point]:
        """Return the table; the events of its end are heard before any connection is watched."""
        self._watch = watch = EngineWatch(running)
        live = self._live

        def hook(library: Any) -> None:
            try:
                if live:
                    watch.listen(library)
            except Exception as error:  # noqa: BLE001  (it would come out of the program's import)
                self._broken.add("pool")
                running.tracker.fail("sqlalchemy.event", error)

        wrapt.register_post_import_hook(hook, "sqlalchemy")
        connect = watch.way("take", watch.connect)
        checkin = watch.way("end", watch.taken_back, "dbapi_connection")
        return [
            Point("sqlalchemy", "engine.Engine.__init__", watch.made, optional=True),
            Point("sqlalchemy", "pool._ConnectionRecord.checkin", checkin, "pool", direct=True),
            Point("sqlalchemy", "pool.SingletonThreadPool.connect", connect, "pool", direct=True),
            Point("sqlalchemy", "pool.Pool.connect", connect, "pool", direct=True),
        ]

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.safely("uninstrument", watch.hush)

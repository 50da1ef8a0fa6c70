"""aiosqlite: connections from `connect` to `close`; one that is left open keeps a thread, and the exit waiting."""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._connections import ConnectWatch, OpenHandle, kept_by_another
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.instrumentation.sqlite3 import database_name

if TYPE_CHECKING:
    from types import FrameType

    from crawlo_otel_leaks.runtime import Runtime

    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]


class ThreadedHandle(OpenHandle):
    """A connection, and what it was asked for so far."""

    __slots__ = ("loop", "running", "uses")
    loop: weakref.ref[asyncio.AbstractEventLoop] | None
    running: int
    uses: int

    def loop_closed(self) -> bool:
        """Whether the loop is closed that used it last; another loop may use it still."""
        if self.loop is None:
            return False
        loop = self.loop()
        return loop is None or loop.is_closed()

    def use(self) -> None:
        """Note that the running loop uses it."""
        self.uses += 1
        loop = asyncio._get_running_loop()  # noqa: SLF001  (unlike get_running_loop() it does not raise)
        self.loop = weakref.ref(loop) if loop else None


class AiosqliteWatch(ConnectWatch):
    """Connections of aiosqlite: asked for in `connect`, open once awaited."""

    handle = ThreadedHandle
    use_is_seen = True

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self._asked: weakref.WeakKeyDictionary[Any, tuple[str, ThreadedHandle]] = weakref.WeakKeyDictionary()
        """Handles, and the names of the databases that they are to be connections to."""

    def target(self, args: Arguments, kwargs: Keywords) -> str:
        """Return the database's name."""
        return database_name(args[0] if args else kwargs.get("database"), paths=self.tracker.capture_paths)

    def refused(self, pool: Any, error: BaseException) -> bool:
        """No: nothing limits the connections to a file."""
        del pool, error
        return False

    def used(self, connection: Any) -> object:
        """Return how often it was used."""
        return getattr(self.find(connection), "uses", None)

    def working(self, connection: Any) -> bool:
        """Whether its thread has something to do."""
        return bool(getattr(self.find(connection), "running", 0))

    def closed(self, connection: Any) -> bool:
        """Whether it is closed, whoever closed it."""
        return connection._connection is None and not connection._running  # noqa: SLF001  (no public name)

    # -- wrappers -----------------------------------------------------------------------------------------

    def call(self, wrapped: Any, instance: object, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of `connect`, which opens nothing yet."""
        del instance
        connection = wrapped(*args, **kwargs)
        self.safely("connect", self._ask, connection, args, kwargs, sys._getframe(1))  # noqa: SLF001
        return connection

    async def open(self, wrapped: Any, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of the coroutine that opens it; cancelled, it may leave its thread running."""
        try:
            return await wrapped(*args, **kwargs)
        finally:
            if connection._running:  # noqa: SLF001  (no public name)
                self.safely("open", self._open, connection)

    async def execute(self, wrapped: Any, connection: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of what hands the thread something to do."""
        handle: Any = self.find(connection)
        if handle is None:
            return await wrapped(*args, **kwargs)
        handle.running += 1
        self.safely("execute", self._use, handle)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            handle.running -= 1

    # -- bookkeeping --------------------------------------------------------------------------------------

    def _ask(self, connection: Any, args: Arguments, kwargs: Keywords, frame: FrameType) -> None:
        handle = ThreadedHandle(self.kind)
        if not kept_by_another(frame) and self.tracker.locate(handle, frame) is not None:
            self._asked[connection] = self.target(args, kwargs), handle

    def _open(self, connection: Any) -> None:
        target, handle = self._asked.pop(connection, ("", None))
        if handle is not None:
            handle.uses = handle.running = 0
            handle.use()
            self.enter(self.pools.server(self.kind, target, frozenset()), connection, handle)

    def _use(self, handle: ThreadedHandle) -> None:
        handle.use()
        self.tracker.use(handle)


class AiosqliteInstrumentor(Instrumentor):
    """Watches aiosqlite 0.17 and later."""

    library = "aiosqlite"
    requires = "aiosqlite >= 0.17"
    handles = (ThreadedHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        watch = AiosqliteWatch(running)
        connection = "core.Connection"
        return [
            Point("aiosqlite", f"{connection}.close", watch.close, "connection"),
            # From 0.22 on, one that is dropped stops its thread, and anybody may.
            Point("aiosqlite", f"{connection}.__del__", watch.drop, optional=True),
            Point("aiosqlite", f"{connection}.stop", watch.close, optional=True),
            Point("aiosqlite", f"{connection}._execute", watch.execute, "connection"),
            Point("aiosqlite", f"{connection}._connect", watch.open, "connection"),
            Point("aiosqlite", "connect", watch.call, "connection"),
            Point("aiosqlite", "core.connect", watch.call, "connection"),
        ]

"""Somebody asks for a connection, and gets it, or waits in vain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.blame import explain
from crawlo_otel_leaks.pool import Wait

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.instrumentation._pools import PoolWatch
    from crawlo_otel_leaks.pool import Pool


class Waiting(Wait):
    """Asking for a connection: entered when it is asked for, left when it is there or refused.

    Nothing in here may raise: the host's own result or exception is all that leaves.
    """

    __slots__ = ("_frame", "_thing", "_watch", "pool")
    origin: ConnectionHandle

    def __init__(self, watch: PoolWatch, thing: Any, frame: FrameType | None) -> None:
        self._watch = watch
        self._thing = thing
        self._frame = frame
        self.pool: Pool | None = None

    def __enter__(self) -> Self:
        """Begin to wait, unless it is telemetry that asks."""
        watch = self._watch
        try:
            origin = self.locate()
            if origin is not None:
                self.origin, self.told, self.since = origin, False, watch.tracker.clock()
                self.pool = pool = watch.pool_of(self._thing)
                pool.waiting[self] = None
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            watch.failed("wait", error)
        return self

    def got(self, connection: Any) -> None:
        """Tell what was asked for is there."""
        if self.pool is not None:
            try:
                self._watch.enter(self.pool, connection, self.origin)
            except Exception as error:  # noqa: BLE001  (as above)
                self._watch.failed("acquire", error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop waiting; if it was in vain, tell who holds what."""
        pool = self.pool
        if pool is None:
            return
        pool.waiting.pop(self, None)
        waited = self._watch.tracker.clock() - self.since
        if error is None:
            pool.waits.append(waited)
        else:
            self._watch.safely("blame", self._refused, pool, error, waited)

    def locate(self) -> ConnectionHandle | None:
        """Return the handle that is to be held, with whoever asks for it; None if that is telemetry."""
        frame, self._frame = self._frame, None  # it may outlive this call otherwise, and all its variables with it
        if frame is None:
            return None
        handle = self._watch.new_handle(frame)
        return handle if self._watch.tracker.locate(handle, frame) is not None else None

    def _refused(self, pool: Pool, error: BaseException, waited: float) -> None:
        cut_off = isinstance(error, asyncio.CancelledError) and waited >= self._watch.patience
        if cut_off or self._watch.refused(self._thing, error):
            pool.timeouts += 1
            self._watch.blame(pool, self, error)
        else:
            explain(self._watch.tracker, error)

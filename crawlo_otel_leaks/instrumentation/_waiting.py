"""Somebody asks for a connection, and gets it, or waits in vain: for what is asked for more rarely than pools are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.instrumentation._pools import PoolWatch


class Waiting:
    """Asking for a connection: entered when it is asked for, left when it is there or refused."""

    __slots__ = ("_frame", "_thing", "_watch", "handle")

    def __init__(self, watch: PoolWatch, thing: Any, frame: FrameType | None) -> None:
        self._watch = watch
        self._thing = thing
        self._frame = frame
        self.handle: ConnectionHandle | None = None
        """What waits, and is to be held; None if it is telemetry that asks."""

    def __enter__(self) -> Self:
        """Begin to wait."""
        frame, self._frame = self._frame, None  # it may outlive this call otherwise, and all its variables with it
        self.handle = self.begin(frame)
        return self

    def begin(self, frame: FrameType | None) -> ConnectionHandle | None:
        """Return what waits; raise nothing."""
        return None if frame is None else self._watch.begin(self._thing, frame)

    def got(self, connection: Any) -> None:
        """Tell what was asked for is there."""
        self._watch.got(self.handle, connection)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop waiting; if it was in vain, tell who holds what."""
        self._watch.waited(self._thing, self.handle, error)

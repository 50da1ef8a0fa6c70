"""Connections that belong to whoever asked for them, whichever task or thread waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.instrumentation._pools import PoolWatch


class Asked(Waiting):
    """A wait that belongs to whoever called, whichever task awaits: `wait_for` up to 3.11 makes one for it."""

    __slots__ = ("_asked",)

    def __init__(self, watch: PoolWatch, thing: Any, asked: ConnectionHandle | None) -> None:
        super().__init__(watch, thing, None)
        self._asked = asked

    def begin(self, frame: FrameType | None) -> ConnectionHandle | None:
        """Let what was located at the call wait."""
        del frame
        return self._watch.wait_for(self._thing, self._asked)


def awaited(wrapped: Callable[..., Any], wait: Waiting, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the coroutine that waits; never awaited, it is told of under the name it has without us."""

    async def waiting() -> Any:
        with wait:
            connection = await wrapped(*args, **kwargs)
            wait.got(connection)
        return connection

    coroutine: Any = waiting()
    coroutine.__name__, coroutine.__qualname__ = wrapped.__name__, wrapped.__qualname__
    return coroutine

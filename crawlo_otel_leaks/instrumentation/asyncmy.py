"""asyncmy: aiomysql's pool and connection, compiled. Their classes are Python's own: methods can be wrapped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.instrumentation import _mysql
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.owner import running_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
    from crawlo_otel_leaks.runtime import Runtime

KEPT: Final = 64
"""Answers of `Pool.acquire` remembered; older ones are forgotten."""


class AsyncmyPools(_mysql.AsyncPools):
    """Pools of asyncmy, whose newer releases begin to acquire only when the answer is awaited."""

    def __init__(self, running: Runtime) -> None:
        super().__init__(running)
        self._answers: dict[int, tuple[type, ConnectionHandle | None]] = {}

    def answer(self, wrapped: Callable[[], Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in front of `Pool.acquire`, and remember who called it."""
        del pool
        answer = wrapped(*args, **kwargs)
        if not hasattr(answer, "_coro"):  # else it has begun, as it does in older releases
            # By its id, which another answer may have later: it takes no weak reference.
            self._answers.pop(id(answer), None)
            self._answers[id(answer)] = type(answer), super().ask(sys._getframe(1))  # noqa: SLF001
            if len(self._answers) > KEPT:
                self._answers.pop(next(iter(self._answers)), None)
        return answer

    def ask(self, frame: FrameType) -> ConnectionHandle | None:
        """Return who called; a task that runs nothing but an answer has no frames that name anybody."""
        task = running_task()
        answer = task.get_coro() if task else None
        kind, asked = self._answers.get(id(answer), (None, None))
        return asked if type(answer) is kind else super().ask(frame)


class AsyncmyInstrumentor(Instrumentor):
    """Watches asyncmy 0.2.8 and later."""

    library = "asyncmy"
    requires = "asyncmy >= 0.2.8"
    handles = (_mysql.MySQLPooled, _mysql.MySQLOpen)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        pools = AsyncmyPools(running)
        answer = Point("asyncmy.pool", "Pool.acquire", pools.answer, "pool")
        return [*_mysql.points(running, pools, "asyncmy", "fill_free_pool"), answer]

"""A function on a thread of its own, awaited from an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def aside(function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
    """Call a function on a thread of its own, which holds up no exit; the future has what came of it.

    Not on the loop's executor: its threads stay, and all of them may be busy.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    # In a list, for the thread to take: its last step, which anybody may overtake, must not keep them alive.
    work = [(contextvars.copy_context(), function, arguments)]

    def run() -> None:
        tell: Callable[..., None] = answer.set_result
        outcome: object
        try:
            outcome = _call(*work.pop())
        except StopIteration as error:  # which no future can carry
            tell, outcome = answer.set_exception, RuntimeError(f"it raised {error!r}")
        except BaseException as error:  # noqa: BLE001  (it is raised where the function was called for)
            tell, outcome = answer.set_exception, error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_tell, answer, tell, outcome)
        del tell, outcome  # an exception refers to this very frame

    threading.Thread(target=run, name="crawlo-leaks-aside", daemon=True).start()
    return answer


def _call(context: contextvars.Context, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
    return context.run(function, *arguments)


def _tell(answer: asyncio.Future[T], tell: Callable[..., None], outcome: object) -> None:
    if not answer.done():  # else nobody waits any more
        tell(outcome)

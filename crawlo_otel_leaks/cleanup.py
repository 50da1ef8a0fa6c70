"""One cleanup function, sync or async, run within a time limit."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from contextlib import suppress
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.aside import aside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import CellType

PARTING: Final = 1.0
"""Seconds that a coroutine gets to end once it is cancelled."""
_NEAR: Final = 2
"""So many steps from a function to what it works with are looked at."""
_REFUSALS: Final = (
    "no running event loop",
    "no current event loop",
    "Non-thread-safe operation",
    "created in a thread can only be used in that same thread",
)
"""What asyncio and sqlite3 say to a call on another thread than theirs."""


def arguments_for(function: Callable[..., object], resource: object) -> tuple[object, ...]:
    """Return what a cleanup function takes: the resource, or nothing; raise TypeError if it takes neither."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        if not callable(function):
            raise TypeError(f"found {function!r} as a cleanup function, expected one that can be called") from None
        return (resource,)  # a builtin that does not tell
    for arguments in ((resource,), ()):
        with suppress(TypeError):
            signature.bind(*arguments)
            return arguments
    raise TypeError(f"found cleanup function {function!r}, expected one that takes the resource or no argument")


async def clean(function: Callable[..., object], arguments: tuple[object, ...], limit: float | None) -> None:
    """Call a cleanup function and await what it returns; raise TimeoutError once `limit` seconds are over.

    A sync function is called on a thread of its own, so that one that hangs can be left behind, unless what it
    works with belongs to an event loop or to the calling thread; then it is called here, however long it takes.
    """
    end = None if limit is None else time.monotonic() + limit
    if end is None or inspect.iscoroutinefunction(function) or bound_here((function, *arguments)):
        result = function(*arguments)
    else:
        result = await _apart(function, arguments, end)
    if not inspect.isawaitable(result):
        return
    if end is None:
        await result
    else:
        await _within(result, end)


async def _apart(function: Callable[..., object], arguments: tuple[object, ...], end: float) -> object:
    try:
        return await _within(aside(function, *arguments), end)
    except Exception as error:
        if not any(refusal in str(error) for refusal in _REFUSALS):
            raise
        return function(*arguments)


async def _within(work: Awaitable[Any], end: float) -> object:
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, end - time.monotonic()))
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=PARTING)
            raise TimeoutError("it took longer than its time limit")
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.cancelled():
        raise RuntimeError("it was cancelled from within")
    result: object = task.result()
    return result


def bound_here(things: Iterable[object], near: int = _NEAR) -> bool:
    """Whether one of these things, or what they refer to nearby, can only be used on the thread it was made on."""
    return any(_bound(thing) or (near > 0 and bound_here(_around(thing), near - 1)) for thing in things)


def _bound(thing: object) -> bool:
    if isinstance(thing, (asyncio.AbstractEventLoop, asyncio.Future, asyncio.Handle)):
        return True
    return type(thing).__module__.partition(".")[0] in ("asyncio", "sqlite3", "uvloop")


def _around(thing: object) -> list[object]:
    """Return what a function or an instance refers to, without running code of its own."""
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, (MethodType, BuiltinMethodType)):
        return [thing.__self__]
    if isinstance(thing, FunctionType):
        return [*map(_content, thing.__closure__ or ()), *(thing.__defaults__ or ())]
    if isinstance(thing, (type, ModuleType)):
        return []
    try:
        return list(object.__getattribute__(thing, "__dict__").values())
    except AttributeError:
        return []


def _content(cell: CellType) -> object:
    try:
        content: object = cell.cell_contents
    except ValueError:  # not filled yet
        return None
    return content

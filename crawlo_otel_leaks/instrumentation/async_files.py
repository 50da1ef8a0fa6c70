"""aiofiles and anyio open in a helper thread: the file belongs to the task that asked, and to its line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._wrapping import Point
from crawlo_otel_leaks.model import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.tracker import Tracker

    Find = Callable[[Any], Handle | None]

LIBRARIES = ("aiofiles", "anyio")


def points(tracker: Tracker, find: Find) -> list[Point]:
    """Return the table; `find` returns the handle of an opened file."""
    opener = _opener(tracker, find)
    return [
        Point("aiofiles.threadpool", "_open", opener),
        Point("aiofiles.tempfile", "_temporary_file", opener),
        Point("anyio._core._fileio", "open_file", opener),
        Point("anyio", "open_file", opener),
        Point("anyio", "Path.open", opener),
        Point("anyio._core._tempfile", "TemporaryFile.__aenter__", opener),
        Point("anyio._core._tempfile", "NamedTemporaryFile.__aenter__", opener),
    ]


def _opener(tracker: Tracker, find: Find) -> Callable[..., Any]:
    def asked(wrapped: Any, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        origin = tracker.locate(Handle(semconv.FILE), sys._getframe(1))  # noqa: SLF001
        opening = wrapped(*args, **kwargs)
        if origin is None:
            return opening
        waiting: Any = claimed(opening, origin)
        # Never awaited, it is told of under the name it has without us.
        waiting.__name__, waiting.__qualname__ = opening.__name__, opening.__qualname__
        return waiting

    async def claimed(opening: Any, origin: Handle) -> Any:
        file = await opening
        try:
            handle = find(file)
            if handle is not None:
                tracker.move(handle, origin)
        except Exception as error:  # noqa: BLE001  (the host has its file; that we cannot watch it is our failure)
            tracker.fail("async open", error)
        return file

    return asked

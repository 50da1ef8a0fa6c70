"""Files: from open() to close(), with the exact moment of abandonment."""

from __future__ import annotations

import functools
import gc
import io
import os
import sys
from io import FileIO
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import blame, semconv
from crawlo_otel_leaks.instrumentation import async_files
from crawlo_otel_leaks.instrumentation._file_handles import (
    FileHandle,
    TrackedFileIO,
    UnbufferedHandle,
    gone,
    note_collection,
    settle_outlived,
)
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.tracker import Accelerator, Tracker

_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)
PLAIN: Final = 2
"""Positional arguments of a plain call; the third is `buffering`."""
_PARAMETERS = ("file", "mode", "buffering", "encoding", "errors", "newline", "closefd", "opener")
_SOUND_MODES = [sorted("b" + letter) for letter in "rwax"]


def _opener(tracker: Tracker) -> Callable[..., Any]:
    acquire, text, fileio, handle_type = tracker.acquire, io.TextIOWrapper, FileIO, FileHandle.of(tracker)

    def tracked_open(wrapped: Any, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        if len(args) > PLAIN or "buffering" in kwargs:
            arguments = _unbuffered_arguments(args, kwargs)
            if arguments is not None:
                return _open_unbuffered(tracker, arguments)
        try:
            file = wrapped(*args, **kwargs)
        except OSError as error:
            _explain(tracker, error)
            raise
        try:
            buffer = file.buffer if type(file) is text else file
            raw = buffer.raw
            if type(raw) is fileio and raw.closefd:
                handle = handle_type(semconv.FILE)
                if acquire(handle, _getframe().f_back) is not None:
                    handle.attach(file, buffer, raw)
        except Exception as error:  # noqa: BLE001  (the host has its file; that we cannot watch it is our failure)
            tracker.fail("open", error)
        return file

    return tracked_open


def _opener_in_c(tracker: Tracker, accelerator: Accelerator) -> Callable[..., Any]:
    """Return what makes the same of it in C: an `open` without a frame of ours below it."""
    long_way = _opener(tracker)
    handle_type = FileHandle.of(tracker)
    files = accelerator.files(
        template=handle_type(semconv.FILE),
        text=io.TextIOWrapper,
        buffers=(io.BufferedReader, io.BufferedWriter, io.BufferedRandom),
        fileio=FileIO,
        close=FileIO.close,
        warn=FileIO._dealloc_warn,  # type: ignore[attr-defined]  # noqa: SLF001  (what CPython itself calls)
        gone=gone,
    )
    handle_type.__call__ = files  # type: ignore[method-assign]

    def stand_for(original: Any, live: list[bool]) -> Any:
        return accelerator.stand(
            wrapped=original,
            live=live,
            note=files.watch,
            refused=functools.partial(_explain, tracker),
            long_way=long_way,
            most=PLAIN,
            keyword="buffering",
            place="builtins:open",
        )

    return stand_for


def _explain(tracker: Tracker, error: OSError) -> None:
    try:
        blame.explain(tracker, error)
    except Exception as failure:  # noqa: BLE001  (the host's own exception is all that may leave)
        tracker.fail("blame", failure)


def _open_unbuffered(tracker: Tracker, arguments: tuple[Any, ...]) -> TrackedFileIO:
    try:
        raw = TrackedFileIO(*arguments)
    except OSError as error:
        _explain(tracker, error)
        raise
    try:
        handle = UnbufferedHandle(semconv.FILE)
        if raw.closefd and tracker.acquire(handle, _getframe(1).f_back) is not None:
            handle.attach(tracker, raw)
    except Exception as error:  # noqa: BLE001  (as in tracked_open)
        tracker.fail("open", error)
    return raw


def _unbuffered_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return FileIO's arguments for a sound unbuffered open; None for any other, which is `open`'s to do or refuse."""
    given = {**dict(zip(_PARAMETERS, args)), **kwargs}  # noqa: B905  (too many arguments are `open`'s to refuse)
    file, mode, buffering = given.get("file"), given.get("mode", "r"), given.get("buffering", -1)
    if not (isinstance(buffering, int) and buffering == 0 and isinstance(mode, str)):
        return None
    text_only = any(given.get(name) is not None for name in ("encoding", "errors", "newline"))
    sound = sorted(mode.replace("+", "", 1)) in _SOUND_MODES and isinstance(file, (int, str, bytes, os.PathLike))
    if text_only or not sound or len(given) < len(args) + len(kwargs) or not set(given) <= set(_PARAMETERS):
        return None
    path = file if isinstance(file, int) else os.fspath(file)  # type: ignore[arg-type]  # narrowed in `sound`
    return path, mode, given.get("closefd", True), given.get("opener")


def _find(thing: Any) -> Handle | None:
    """Return the handle of a file, of a temporary file's wrapper, or of an aiofiles or anyio file."""
    for name in ("_file", "wrapped", "file"):
        thing = getattr(thing, name, thing)
    if isinstance(thing, TrackedFileIO):
        return thing._crawlo_handle  # noqa: SLF001  (ours)
    try:
        handle = thing.buffer.raw if isinstance(thing, io.TextIOWrapper) else thing.raw
        handle = handle._dealloc_warn  # noqa: SLF001  (where a handle is attached)
    except (AttributeError, ValueError):  # no file, or a detached one
        return None
    return handle if isinstance(handle, FileHandle) else None


def _ending(tracker: Tracker, dropped: Callable[[Any], bool]) -> Callable[..., Any]:
    """A dropped temporary file that is Python code closes itself, explicitly as it seems from below."""

    def ending(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        handle = _find(instance) if dropped(instance) else None
        if handle is not None:
            tracker.abandon(handle)
        return wrapped(*args, **kwargs)

    return ending


def _unclosed(closer: Any) -> bool:
    """Whether nobody closed a NamedTemporaryFile whose closer is collected."""
    return not getattr(closer, "close_called", True)


def _open(file: Any) -> bool:
    """Whether a SpooledTemporaryFile that is collected is open."""
    return not getattr(file, "closed", True)


def _temporary_points(tracker: Tracker) -> list[Point]:
    points = [Point("tempfile", "_TemporaryFileCloser.__del__", _ending(tracker, _unclosed))]
    if sys.version_info >= (3, 11):  # before, it leaves its end to the file in it
        points.append(Point("tempfile", "SpooledTemporaryFile.__del__", _ending(tracker, _open)))
    return points


class FilesInstrumentor(Instrumentor):
    """Watches `open` in all its names, temporary files, and aiofiles and anyio where they are used."""

    handles = (FileHandle, UnbufferedHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        tracker = running.tracker
        running.finders.append(_find)
        tracker.chores.append(settle_outlived)
        gc.callbacks.append(note_collection)
        for library in async_files.LIBRARIES:
            tracker.sites.hide(library)
        opener = _opener_in_c(tracker, tracker.accelerator) if tracker.accelerator else _opener(tracker)
        names = [("builtins", "open"), ("io", "open"), ("aiofiles.threadpool", "sync_open")]
        if sys.version_info < (3, 11):
            names.append(("pathlib", "_NormalAccessor.open"))  # it keeps io.open as it was at import
        return [
            *(Point(module, path, opener, direct=tracker.accelerator is not None) for module, path in names),
            *_temporary_points(tracker),
            *async_files.points(tracker, _find),
        ]

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        if note_collection in gc.callbacks:
            gc.callbacks.remove(note_collection)
            settle_outlived()

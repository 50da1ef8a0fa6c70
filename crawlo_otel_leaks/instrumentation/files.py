"""Files: from open() to close(), with the exact moment of abandonment."""

from __future__ import annotations

import gc
import io
import os
import stat
import sys
import warnings
import weakref
from collections import deque
from io import FileIO
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import async_files
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.model import Handle, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.tracker import Tracker

_close = FileIO.close
_dealloc_warn = FileIO._dealloc_warn  # type: ignore[attr-defined]  # noqa: SLF001  (what CPython itself calls)


class FileHandle(Handle):
    """A buffered or text file, seen through its raw FileIO.

    The C classes above call `raw.close` and, when the user's object is dropped open, first
    `raw._dealloc_warn`: both are set on the raw instance. The handle holds the raw, never the
    user's object, so that the file still dies by reference count, and in cycles.
    """

    __slots__ = ("abandoned", "raw", "ref", "tracker")
    tracker: Tracker
    raw: FileIO | None
    ref: weakref.ref[Any] | None

    def attach(self, file: Any, raw: FileIO) -> None:
        """Listen to the raw file below the user's `file`."""
        self.abandoned = False
        self.raw = raw
        # Only a detached buffer lets the user's object die before the raw was closed.
        self.ref = weakref.ref(file, self._detached)
        raw.close = self.close  # type: ignore[method-assign]
        raw._dealloc_warn = self.warn  # type: ignore[attr-defined]  # noqa: SLF001  (see above)

    def close(self) -> None:
        """Stand in for `raw.close`: an explicit close, or the second step of a drop."""
        raw = self.let_go()
        if raw is not None:
            if not self.abandoned:
                self.tracker.release(self)
            _close(raw)

    def warn(self, source: object) -> None:
        """Stand in for `raw._dealloc_warn`: the user's object is being dropped while open."""
        raw = self.raw
        if raw is None:
            return
        self.abandoned = True
        self.tracker.abandon(self)
        try:
            # From here rather than from C, so that the warning names the line it would without us.
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)
        except Warning:  # an "error" filter: CPython reports it as unraisable
            _dealloc_warn(raw, source)

    def let_go(self) -> FileIO | None:
        """Leave the raw file as it was before; return it."""
        raw, self.raw, self.ref = self.raw, None, None
        if raw is not None:
            attributes = raw.__dict__
            self.name = attributes.get("name", "")
            attributes.pop("close", None)
            attributes.pop("_dealloc_warn", None)
        return raw

    def label(self) -> str:
        """Return the path; a temporary file gets its own after it was opened."""
        return _path(self.tracker, self.name if self.raw is None else getattr(self.raw, "name", ""))

    def referent(self) -> object | None:
        """Return the user's file while it lives."""
        return self.ref() if self.ref else None

    def progress(self) -> Progress:
        """Tell use by the descriptor's position and by what the text layer has pending."""
        raw, file = self.raw, self.referent()
        return Progress(visible=False) if raw is None or file is None else _progress(raw, file)

    def _detached(self, _: object) -> None:
        """Mark for `settle_orphans`: in a cycle the collector tells this before it closes the file."""
        _orphans.append(self)


class TrackedFileIO(FileIO):
    """An unbuffered file, which has no raw below it to listen to."""

    _crawlo_handle: UnbufferedHandle | None = None

    def close(self) -> None:
        """Release, then close."""
        handle, self._crawlo_handle = self._crawlo_handle, None
        if handle is not None:
            handle.name = self.name
            if getattr(self, "_finalizing", False):
                handle.tracker.abandon(handle)
            else:
                handle.tracker.release(handle)
        super().close()

    def __repr__(self) -> str:
        """Look like the class it stands in for."""
        return super().__repr__().replace("TrackedFileIO", "_io.FileIO", 1)


class UnbufferedHandle(Handle):
    """An unbuffered file."""

    __slots__ = ("ref", "tracker")
    ref: weakref.ref[TrackedFileIO]
    tracker: Tracker

    def label(self) -> str:
        """Return the path."""
        file = self.ref()
        return _path(self.tracker, self.name if file is None else file.name)

    def referent(self) -> object | None:
        """Return the user's file while it lives."""
        return self.ref()

    def progress(self) -> Progress:
        """Tell use by the descriptor's position."""
        file = self.ref()
        return Progress(visible=False) if file is None else _progress(file, file)


_orphans: deque[FileHandle] = deque()


def settle_orphans() -> None:
    """Let go of files whose buffer was detached: their raw is the user's own now, by reference count."""
    while _orphans:
        handle = _orphans.popleft()
        if handle.let_go() is not None:
            handle.tracker.forget(handle)


def _path(tracker: Tracker, name: Any) -> str:
    if isinstance(name, int):
        return f"fd {name}"
    path = os.fsdecode(name)
    return path if tracker.capture_paths else f"*{PurePath(path).suffix}"


def _progress(raw: FileIO, file: Any) -> Progress:
    try:
        return _look(raw, file)
    except (OSError, ValueError):  # closed by another thread in between
        return Progress(visible=False)


def _look(raw: FileIO, file: Any) -> Progress:
    """Look at the kernel's position only: asking the buffered layers would take their locks or move their state."""
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return Progress(visible=False)
    position = raw.tell()
    if file is raw:
        return Progress(position, untouched=position == 0)
    if isinstance(file, io.TextIOWrapper):
        return _text_progress(position, file)
    # What a buffer holds cannot be seen: a reader may be living on it, a writer filling it.
    unread = position == 0 and not file.writable()
    return Progress(position, untouched=position == 0, visible=unread)


def _text_progress(position: int, file: io.TextIOWrapper) -> Progress:
    """Use what the text layer shows the garbage collector: pending writes, and decoded characters not yet read."""
    pending = [thing for thing in gc.get_referents(file) if isinstance(thing, (str, bytes, list, tuple))]
    token = (position, *((id(thing), len(thing)) for thing in pending))
    # The one tuple is the decoder's snapshot: there are decoded characters, which a reader may be living on.
    living_on_it = any(isinstance(thing, tuple) for thing in pending)
    return Progress(token, untouched=position == 0 and not file.writable(), visible=not living_on_it)


def _wrapper(tracker: Tracker) -> Callable[..., Any]:
    acquire, getframe, text, fileio = tracker.acquire, sys._getframe, io.TextIOWrapper, FileIO  # noqa: SLF001

    def tracked_open(wrapped: Any, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        if len(args) > 2 or "buffering" in kwargs:  # noqa: PLR2004  (the third argument is buffering)
            file = _unbuffered(tracker, wrapped, args, kwargs)
            if file is not None:
                return file
        file = wrapped(*args, **kwargs)
        try:
            raw = file.buffer.raw if type(file) is text else file.raw
            if type(raw) is fileio and raw.closefd:
                handle = FileHandle(semconv.FILE)
                frame = getframe().f_back  # None where the interpreter opens, to print a traceback's lines
                if frame is not None and acquire(handle, frame) is not None:
                    handle.tracker = tracker
                    handle.attach(file, raw)
        except Exception as error:  # noqa: BLE001  (the host has its file; that we cannot watch it is our failure)
            tracker.fail("open", error)
        return file

    return tracked_open


def _unbuffered(
    tracker: Tracker,
    wrapped: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> TrackedFileIO | None:
    """Open as `open` does with buffering=0; None if it is not asked for, or is to be refused by `open` itself."""
    file, mode, closefd, opener = _unbuffered_arguments(args, kwargs)
    if file is None:
        return None
    raw = TrackedFileIO(file, mode, closefd, opener)
    try:
        handle = UnbufferedHandle(semconv.FILE)
        frame = sys._getframe(1).f_back  # noqa: SLF001  (None as in tracked_open)
        if raw.closefd and frame is not None and tracker.acquire(handle, frame) is not None:
            handle.tracker, handle.ref = tracker, weakref.ref(raw)
            raw._crawlo_handle = handle  # noqa: SLF001  (ours)
    except Exception as error:  # noqa: BLE001  (as in tracked_open)
        tracker.fail("open", error)
    del wrapped
    return raw


_PARAMETERS = ("file", "mode", "buffering", "encoding", "errors", "newline", "closefd", "opener")


def _unbuffered_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str, bool, Any]:
    """Return file, mode, closefd and opener of a sound unbuffered open; file is None for any other."""
    given = {**dict(zip(_PARAMETERS, args)), **kwargs}  # noqa: B905  (too many arguments are `open`'s to refuse)
    mode = given.get("mode", "r")
    text_only = any(given.get(name) is not None for name in ("encoding", "errors", "newline"))
    sound = isinstance(mode, str) and "b" in mode and sorted(mode.replace("+", "", 1)) in _SOUND_MODES
    if given.get("buffering", -1) != 0 or text_only or not sound or not set(given) <= set(_PARAMETERS):
        return None, "", True, None
    file = given.get("file")
    file = file if isinstance(file, int) or file is None else os.fspath(file)
    return file, mode, given.get("closefd", True), given.get("opener")


_SOUND_MODES = [sorted("b" + letter) for letter in "rwax"]


def _find(thing: Any) -> Handle | None:
    """Return the handle of a file, of a temporary file's wrapper, or of an aiofiles or anyio file."""
    thing = _inner(thing)
    if isinstance(thing, TrackedFileIO):
        return thing._crawlo_handle  # noqa: SLF001  (ours)
    raw = getattr(getattr(thing, "buffer", thing), "raw", None)
    handle = getattr(getattr(raw, "close", None), "__self__", None)
    return handle if isinstance(handle, FileHandle) else None


def _claim(tracker: Tracker) -> Callable[[Any, Handle], None]:
    def claim(file: Any, origin: Handle) -> None:
        handle = _find(file)
        if handle is None:  # the library kept the `open` that it found before ours
            inner = _inner(file)
            raw = getattr(getattr(inner, "buffer", inner), "raw", None)
            if type(raw) is not FileIO or raw.closed:
                return
            handle = FileHandle(semconv.FILE)
            tracker.enter(handle, origin)
            handle.tracker = tracker
            handle.attach(inner, raw)
        else:
            tracker.move(handle, origin)

    return claim


def _inner(thing: Any) -> Any:
    for name in ("_file", "wrapped", "file"):
        thing = getattr(thing, name, thing)
    return thing


def _dropped_temporary(tracker: Tracker) -> Callable[..., Any]:
    """A dropped NamedTemporaryFile closes itself, explicitly as it seems from below."""

    def finalize(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        handle = _find(getattr(instance, "file", None))
        if isinstance(handle, FileHandle) and not getattr(instance, "close_called", False):
            handle.abandoned = True
            tracker.abandon(handle)
        return wrapped(*args, **kwargs)

    return finalize


class FilesInstrumentor(Instrumentor):
    """Watches `open` in all its names, temporary files, and aiofiles and anyio where they are used."""

    handles = (FileHandle, UnbufferedHandle)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        tracker = running.tracker
        running.finders.append(_find)
        tracker.chores.append(settle_orphans)
        for library in async_files.LIBRARIES:
            tracker.sites.hide(library)
        opener = _wrapper(tracker)
        names = [("builtins", "open"), ("io", "open")]
        if sys.version_info < (3, 11):
            names.append(("pathlib", "_NormalAccessor.open"))  # it keeps io.open as it was at import
        return [
            *(Point(module, path, opener) for module, path in names),
            Point("tempfile", "_TemporaryFileCloser.__del__", _dropped_temporary(tracker)),
            *async_files.points(tracker, _claim(tracker)),
        ]

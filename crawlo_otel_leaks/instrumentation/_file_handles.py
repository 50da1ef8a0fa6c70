"""What stands for an open file: listening to its raw FileIO, and looking at whether it is used."""

from __future__ import annotations

import gc
import io
import os
import stat
import weakref
from collections import deque
from io import FileIO
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.model import NamedHandle, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crawlo_otel_leaks.tracker import Tracker

_close = FileIO.close
_dealloc_warn = FileIO._dealloc_warn  # type: ignore[attr-defined]  # noqa: SLF001  (what CPython itself calls)
_INVISIBLE = Progress(visible=False)


def gone() -> None:
    """Stand for the reference to a file that is watched no more."""


class FileHandle(NamedHandle):
    """A buffered or text file, seen through its raw FileIO.

    The C classes above call `raw.close` and, when whatever the user holds is dropped open, first
    `raw._dealloc_warn`: both are set on the raw instance. The handle holds the raw, and the buffer
    below text, never the user's object, so that the file still dies by reference count, and in
    cycles (where it is now always the outermost layer that is finalized first: pending writes,
    which the collector loses when it happens upon the raw first, are written).
    """

    __slots__ = ("buffer", "part_of", "raw", "ref")
    elementary = True
    tracker: Tracker
    """Of the class that `of` makes: it weighs nothing in each."""
    raw: FileIO | None
    buffer: Any
    """What text is above of; None of another file, and once it is let go."""
    ref: Callable[[], Any]
    """The user's file, while it lives: one reference to each, which weighs more than all else."""

    @classmethod
    def of(cls, tracker: Tracker) -> type[FileHandle]:
        """Return the class of a tracker's files."""
        return type(cls.__name__, (cls,), {"__slots__": (), "tracker": tracker})

    def attach(self, file: Any, buffer: Any, raw: FileIO) -> None:
        """Listen to the raw file below the user's `file`, which is `buffer` itself or text above it."""
        self.raw = raw
        self.buffer = None if file is buffer else buffer
        self._refer_to(file)
        raw.close = self.close  # type: ignore[method-assign]
        raw._dealloc_warn = self  # type: ignore[attr-defined]  # noqa: SLF001  (see above, and `__call__`)

    def _refer_to(self, file: Any) -> None:
        self.ref = ref = FileRef(file, _outlive)
        ref.handle = self

    def close(self) -> None:
        """Stand in for `raw.close`: an explicit close, or the second step of a drop."""
        raw = self.raw
        try:
            if self.let_go():
                self.tracker.release(self)  # which was told already what became of one that was dropped
        finally:
            self.raw = None
            if raw is not None:
                _close(raw)

    @property
    def __call__(self) -> Callable[[object], None]:
        """Stand in for `raw._dealloc_warn`: what the user held is being dropped while open.

        A property, because CPython looks it up and then calls what it got: no frame of ours is on
        the stack when the warning is issued, or raised, and so it tells the line it always told.
        """
        self.tracker.abandon(self)
        return _dealloc_warn.__get__(self.raw)  # type: ignore[no-any-return]

    def _outlived(self, _: object) -> None:
        """Settle what is left of a file that is gone; the collector, though, tells of one before it closes it."""
        if _collecting:
            _outlived.append(self)
        else:
            self.settle()

    def settle(self) -> None:
        """Watch the buffer that text was detached from; a raw that has no buffer is the user's own again."""
        buffer, self.buffer = self.buffer, None
        if self.raw is not None and getattr(buffer, "raw", None) is self.raw:
            self._refer_to(buffer)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        if self.let_go():
            self.tracker.forget(self)
        self.raw = None

    def let_go(self) -> bool:
        """Leave the raw file as it was before; False if that happened already.

        The raw is kept: another thread may have looked `close` up just before, and is about to call it.
        """
        if self.raw is None:
            return False
        attributes, _buffer = self.raw.__dict__, self.buffer  # kept to the end: it may be the last reference
        self.ref, self.buffer = gone, None
        self.name = attributes.get("name", "")
        attributes.pop("_dealloc_warn", None)
        return attributes.pop("close", None) is not None

    def label(self) -> str:
        """Return the path; a temporary file gets its own after it was opened."""
        return path_name(self.tracker, self.name if self.raw is None else getattr(self.raw, "name", ""))

    def descriptors(self) -> Iterable[int]:
        """Return the raw file's descriptor."""
        raw = self.raw
        return () if raw is None else (raw.fileno(),)

    def referent(self) -> object | None:
        """Return the user's file while it lives."""
        return self.ref()  # type: ignore[no-any-return]

    def progress(self) -> Progress:
        """Tell use by the descriptor's position and by what the text layer has pending."""
        raw, buffer, file = self.raw, self.buffer, self.ref()
        if raw is None or file is None:
            return _INVISIBLE
        whole = buffer is None or getattr(file, "buffer", None) is buffer
        below: Any = getattr(file if buffer is None else buffer, "raw", None)
        if not whole or below is not raw:
            self.settle()  # detached, and kept beside it
            return _INVISIBLE
        return _progress(raw, file)


class FileRef(weakref.ref[Any]):
    """A reference to a file that knows its handle, which is lighter than a bound method for each."""

    __slots__ = ("handle",)
    handle: FileHandle


def _outlive(ref: FileRef) -> None:
    ref.handle._outlived(ref)  # noqa: SLF001  (of this very file)


class UnbufferedHandle(NamedHandle):
    """An unbuffered file."""

    __slots__ = ("part_of", "ref", "tracker")
    elementary = True
    ref: weakref.ref[TrackedFileIO]
    tracker: Tracker

    def attach(self, tracker: Tracker, raw: TrackedFileIO) -> None:
        """Have the file tell of its end."""
        self.tracker = tracker
        self.ref = weakref.ref(raw)
        raw._crawlo_handle = self  # noqa: SLF001  (ours)

    def let_go(self) -> None:
        """Have the file tell nothing any more."""
        raw = self.ref()
        if raw is not None:
            raw._crawlo_handle = None  # noqa: SLF001  (ours)

    def label(self) -> str:
        """Return the path."""
        raw = self.ref()
        return path_name(self.tracker, self.name if raw is None else getattr(raw, "name", ""))

    def descriptors(self) -> Iterable[int]:
        """Return the file's descriptor."""
        raw = self.ref()
        return () if raw is None else (raw.fileno(),)

    def referent(self) -> object | None:
        """Return the user's file while it lives."""
        return self.ref()

    def progress(self) -> Progress:
        """Tell use by the descriptor's position."""
        raw = self.ref()
        return _INVISIBLE if raw is None else _progress(raw, raw)


_collecting: set[str] = set()
_outlived: deque[FileHandle] = deque()


def note_collection(phase: str, _: object) -> None:
    """Note, as a member of `gc.callbacks`, whether the collector is at work."""
    (_collecting.add if phase == "start" else _collecting.discard)("gc")


def settle_outlived() -> None:
    """Settle what `FileHandle` could not tell apart while the collector was at work."""
    while _outlived:
        _outlived.popleft().settle()


class TrackedFileIO(FileIO):
    """An unbuffered file, which has no raw below it to listen to.

    Properties, for the reason that `FileHandle.__call__` gives.
    """

    _crawlo_handle: UnbufferedHandle | None = None

    @property
    def close(self) -> Callable[[], None]:
        """What closes it: CPython's own method when it is being dropped, else one that releases first."""
        if self._crawlo_handle is None:
            return super().close
        if not self._finalizing:  # type: ignore[attr-defined]
            return self._crawlo_close
        self._crawlo_end(dropped=True)
        return super().close

    @property
    def _dealloc_warn(self) -> Callable[[object], None]:
        """What warns when a buffer that the user put above it is being dropped."""
        self._crawlo_end(dropped=True)
        return super()._dealloc_warn  # type: ignore[misc, no-any-return]

    def _crawlo_close(self) -> None:
        try:
            self._crawlo_end(dropped=False)
        finally:
            super().close()

    def _crawlo_end(self, *, dropped: bool) -> None:
        handle, self._crawlo_handle = self._crawlo_handle, None
        if handle is not None:
            handle.name = getattr(self, "name", "")
            (handle.tracker.abandon if dropped else handle.tracker.release)(handle)

    def __repr__(self) -> str:
        """Look like the class it stands in for."""
        return super().__repr__().replace("<FileIO", "<_io.FileIO", 1)


TrackedFileIO.__name__ = TrackedFileIO.__qualname__ = FileIO.__name__
TrackedFileIO.__module__ = FileIO.__module__


def path_name(tracker: Tracker, name: Any) -> str:
    """Return a file's name for telling, with no path where that is to be hidden."""
    if isinstance(name, int):
        return f"fd {name}"
    path = os.fsdecode(name)
    return path if tracker.capture_paths else f"*{PurePath(path).suffix}"


def _progress(raw: FileIO, file: Any) -> Progress:
    """Look at the kernel's position only: asking the buffered layers would take their locks or move their state."""
    try:
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            return _INVISIBLE
        position, readable_only = raw.tell(), not raw.writable()
    except (OSError, ValueError):  # closed by another thread in between
        return _INVISIBLE
    if file is raw:
        return Progress(position, untouched=position == 0)
    untouched = position == 0 and readable_only
    if isinstance(file, io.TextIOWrapper):
        return _text_progress(position, file, untouched=untouched)
    # What a buffer holds cannot be seen: a reader may be living on it, a writer filling it.
    return Progress(position, untouched=position == 0, visible=untouched)


def _text_progress(position: int, file: io.TextIOWrapper, *, untouched: bool) -> Progress:
    """Use what the text layer shows the garbage collector: pending writes, and decoded characters not yet read."""
    pending = [thing for thing in gc.get_referents(file) if isinstance(thing, (str, bytes, list, tuple))]
    # Its hash, because a token is kept for each file, and is several objects otherwise.
    token = hash((position, *((id(thing), len(thing)) for thing in pending)))
    # The one tuple is the decoder's snapshot: there are decoded characters, which a reader may be living on.
    living_on_it = any(isinstance(thing, tuple) for thing in pending)
    return Progress(token, untouched=untouched, visible=not living_on_it)

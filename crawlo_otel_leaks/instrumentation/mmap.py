"""Memory-mapped files: each has a descriptor of its own until it is closed or dropped."""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation._file_handles import path_name
from crawlo_otel_leaks.instrumentation._things import ThingHandle, Things
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point, Stand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crawlo_otel_leaks.runtime import Runtime

_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)
_CLASS: Final[Any] = mmap.mmap
_ANONYMOUS: Final = -1
_LINKS: Final = "/proc/self/fd"


class MapHandle(ThingHandle):
    """A map of a file. It has no method for its descriptor, which is a copy of the one it was given."""

    __slots__ = ("inode", "number", "part_of")
    elementary = True
    number: int
    """Of the copy; what it refers to by now must be asked."""
    inode: tuple[int, int]

    def descriptors(self) -> Iterable[int]:
        """Return the copy's number, if it still refers to the file."""
        closed = getattr(self.ref(), "closed", True)
        return () if closed or _inode(self.number) != self.inode else (self.number,)

    def label(self) -> str:
        """Return the path of the file."""
        for number in self.descriptors() if self.released_at is None else ():
            self.name = f"mmap {_path(number, self)}"
        return self.name


class Maps(Things[MapHandle]):
    """What stands in front of mmap.mmap. A map is asked whether it is closed; dropping one is a way to close it."""

    make = MapHandle
    kind = semconv.FILE
    drops_are_ends = True

    def name(self, thing: Any) -> str:
        """Return what is known without the kernel."""
        del thing
        return "mmap"

    def create(self, wrapped: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        """Stand in front of the class; what it makes is of the very same class as before."""
        del instance
        given = args[0] if args else kwargs.get("fileno", _ANONYMOUS)
        free = _free() if isinstance(given, int) and given >= 0 else _ANONYMOUS
        try:
            made = wrapped(*args, **kwargs)
        except OSError as error:
            self.explain(error)
            raise
        if free >= 0:
            self.safely(self._made, made, given, free)
        return made

    def _made(self, made: Any, given: int, free: int) -> None:
        inode = _inode(given)
        if inode is not None:
            self.note(made, _getframe(3), number=free, inode=inode)  # above `_made`, `safely` and `create`

    def count(self) -> None:
        """Release what was closed since the last tick, and count the rest."""
        for handle in list(self.held.values()):
            made = handle.ref()
            if made is not None and made.closed:
                self.release(made)
        super().count()


class ClassStand(Stand):
    """What stands in front of the class. One that derives from it calls `mmap.mmap.__new__` with itself."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a stand, or what the class makes."""
        return super().__new__(cls) if issubclass(cls, Stand) else _CLASS.__new__(cls, *args, **kwargs)


def _free() -> int:
    """Return the lowest free number, which is the one that a map's copy will get."""
    try:
        number = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # none is left, or not allowed
        return _ANONYMOUS
    os.close(number)
    return number


def _inode(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _path(number: int, handle: MapHandle) -> str:
    try:
        path = os.readlink(f"{_LINKS}/{number}")  # noqa: PTH115  (a string is what is told)
    except OSError:  # no /proc
        return ""
    return path_name(handle.things.tracker, path)


class MmapInstrumentor(Instrumentor):
    """Watches mmap.mmap."""

    handles = (MapHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        maps = Maps(running.tracker)
        running.attend(maps.find, maps.count, maps.reset)
        return [Point("mmap", "mmap", maps.create)]

    def _stand(self, original: Any, point: Point) -> Any:
        return ClassStand(original, point, self._live)

"""A unix socket on which the user who runs this process may watch what is held in it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WATCHERS: Final = 4
"""Who may watch at a time."""
BUFFER: Final = 1 << 20
"""Bytes that a watcher may be behind; one that is further behind is hung up on."""
_logger = logging.getLogger("crawlo_otel_leaks")


def folder(user: int) -> Path:
    """Return where the sockets of a user's processes are; TMPDIR may differ between a service and a shell."""
    return Path(f"/tmp/crawlo-leaks-{user}")  # noqa: S108  (its owner and mode are checked before use)


class Endpoint:
    """Tells a table to whoever has connected, at each tick, on the detector's thread. It waits for nobody."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._path: Path | None = None
        self._watchers: list[socket.socket] = []

    @property
    def watched(self) -> bool:
        """Whether somebody is watching."""
        return bool(self._watchers)

    def open(self) -> None:
        """Listen; where that cannot be, say so once and go without."""
        try:
            self._open()
        except OSError as error:
            _logger.info("crawlo_otel_leaks: `crawlo-leaks top` cannot watch this process: %s", error)
            self.close()

    def _open(self) -> None:
        place = folder(os.getuid())
        with contextlib.suppress(FileExistsError):
            place.mkdir(0o700)
        _check(place)
        path = place / f"{os.getpid()}.sock"
        path.unlink(missing_ok=True)  # of a process that had this number before
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)  # noqa: FBT003  (the standard library's signature)
        listener.bind(str(path))
        self._path = path
        listener.listen(WATCHERS)

    def tell(self, table: Callable[[], dict[str, Any]]) -> None:
        """Let in who knocks, and send everybody the table; it is made only if there is somebody."""
        self._let_in()
        if not self._watchers:
            return
        line = json.dumps(table(), ensure_ascii=True).encode() + b"\n"
        for watcher in list(self._watchers):
            if not _sent(watcher, line):
                self._watchers.remove(watcher)
                watcher.close()

    def _let_in(self) -> None:
        while self._listener is not None:
            try:
                watcher, _ = self._listener.accept()
            except OSError:  # nobody, or no descriptor is left
                return
            watcher.setblocking(False)  # noqa: FBT003  (as above)
            watcher.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            if len(self._watchers) < WATCHERS and _user_of(watcher) in (None, 0, os.getuid()):
                self._watchers.append(watcher)
            else:
                watcher.close()

    def descriptors(self) -> set[int]:
        """Return its own descriptors, which no handle explains."""
        return {one.fileno() for one in (self._listener, *self._watchers) if one is not None}

    def close(self) -> None:
        """Hang up, and take the socket away."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self.forked()

    def forked(self) -> None:
        """Close a parent's sockets in its child, which leaves the path to the parent."""
        for one in (self._listener, *self._watchers):
            if one is not None:
                one.close()
        self._listener, self._path, self._watchers = None, None, []


def _check(place: Path) -> None:
    """Refuse a folder that another user could have put there, or could look into."""
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{place} is not a folder of this user's alone: expected owner {os.getuid()}, mode 0700")


def _user_of(watcher: socket.socket) -> int | None:
    """Return the user at the other end, None where the system cannot tell: there the folder alone protects."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, user, _ = struct.unpack("3i", watcher.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return int(user)


def _sent(watcher: socket.socket, line: bytes) -> bool:
    """Send a line at once and whole, or not at all."""
    try:
        return watcher.send(line, getattr(socket, "MSG_NOSIGNAL", 0)) == len(line)
    except OSError:
        return False

"""The calling stack, as an interned Site; lines and texts are resolved when somebody asks."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import sysconfig
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.model import Frame, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, FrameType
    from typing import Any

    from crawlo_otel_leaks.model import Stack

NEAR: Final = 3
"""User frames that tell one site from another; exact for every acquisition."""
FIRST: Final = 4
"""Acquisitions of a new site whose whole stack is taken."""
EVERY: Final = 64
"""After those, one whole stack in so many (a power of two)."""
LIMIT: Final = 20_000
"""Sites and code objects remembered; above, the memory starts afresh."""
_REACH: Final = 256
_USER: Final = 1
_PLUMBING: Final = 2
_ROOT: Final = 3
# Comprehensions have a frame of their own up to 3.11 and none from 3.12 (PEP 709).
_INLINED: Final = ("<listcomp>", "<dictcomp>", "<setcomp>")


def _directory(path: str) -> str:
    return os.path.join(os.path.realpath(path), "")  # noqa: PTH118  (a trailing separator, which Path drops)


OWN: Final = os.path.dirname(__file__) + os.sep  # noqa: PTH120  (strings throughout: code names are strings)
_STDLIB: Final = tuple({_directory(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib")})
_PACKAGES: Final = ("site-packages" + os.sep, "dist-packages" + os.sep)
_LIBRARIES: Final = ("opentelemetry" + os.sep, "wrapt" + os.sep)
# Where the stack of a task or a pool thread begins; what is above started the loop, not the work.
_ROOTS: Final = (
    (os.path.join("asyncio", "events.py"), "_run"),  # noqa: PTH118
    (os.path.join("asyncio", "runners.py"), "run"),  # noqa: PTH118
    (os.path.join("concurrent", "futures", "thread.py"), "_worker"),  # noqa: PTH118
    ("threading.py", "_bootstrap_inner"),
)
_DEMO: Final = OWN + "demo" + os.sep


class Sites:
    """Interns the stacks of callers; every memory in it is bounded."""

    def __init__(self, depth: int = 20, *, full: bool = False, libraries: tuple[str, ...] = ()) -> None:
        self.depth = depth
        self.full = full
        self.forgetters: list[Callable[[], None]] = []
        """Called before the memory starts afresh, for those who remember what it told."""
        self._plumbing = _LIBRARIES + tuple(name + os.sep for name in libraries)
        self._roles: dict[int, int] = {}
        self._codes: list[CodeType] = []
        self._sites: dict[tuple[object, ...], Site] = {}

    def __len__(self) -> int:
        return len(self._sites)

    @property
    def rate(self) -> float:
        """Part of the acquisitions at well-known sites whose whole stack is taken, 0 to 1."""
        return 1.0 if self.full else 1 / EVERY

    def hide(self, library: str) -> None:
        """Treat the frames of a watched library as plumbing: a site names who called it."""
        if library + os.sep not in self._plumbing:
            self._plumbing += (library + os.sep,)
            self._forget()

    def hides(self, library: str) -> bool:
        """Whether a library is watched, so that its frames are plumbing."""
        return library + os.sep in self._plumbing

    def at(self, frame: FrameType, kind: str = "") -> tuple[Site, Stack | None]:
        """Return the site of a kind that `frame` and its callers are, and the whole stack when it was sampled.

        A line that takes a connection takes its socket too: each has a site of its own there.
        """
        roles = self._roles
        left = NEAR
        key: list[object] = [kind]
        step: FrameType | None = frame
        while step is not None:
            code = step.f_code
            role = roles.get(id(code)) or self._classify(code, step.f_globals)
            if role == _USER:
                key += (id(code), step.f_lasti)
                left -= 1
                if not left:
                    break
            elif role == _ROOT:
                break
            step = step.f_back
        site = self._sites.get(tuple(key)) or self._new(tuple(key), frame)
        site.acquired = count = site.acquired + 1
        if self.full or site.leaked or count <= FIRST or not count % EVERY:
            return site, self._walk(frame, self.depth) or site.frames
        return site, None

    def of(self, steps: Stack, kind: str = "") -> tuple[Site, Stack]:
        """Return the site of a stack, noted as code and instruction, nearest first, and its user frames; see `at`."""
        user: list[tuple[CodeType, int]] = []
        for step in steps:
            role = self._roles.get(id(step[0])) or self._classify(step[0])
            if role == _ROOT:
                break
            if role == _USER:
                user.append(step)
        stack = tuple(user) or steps[:1]
        near = stack[:NEAR]
        key = (kind, *(part for code, lasti in near for part in (id(code), lasti)))
        site = self._sites.get(key)
        if site is None:
            self._make_room()
            site = self._sites[key] = Site(near, ())
            site.sample = stack
        site.acquired += 1
        # Most stacks of a site are the same: one is enough in memory.
        return site, site.sample if site.sample == stack else stack

    def _make_room(self) -> None:
        if len(self._sites) >= LIMIT:
            self._forget()

    def _new(self, key: tuple[object, ...], frame: FrameType) -> Site:
        self._make_room()
        raw = _raw(frame)
        user = [step for step in raw if self._classify(step.f_code, step.f_globals) == _USER][:NEAR]
        near = user or raw[:1]
        frames = tuple((step.f_code, step.f_lasti) for step in near)
        site = Site(frames, tuple(str(step.f_globals.get("__name__")) for step in near))
        site.sample = self._walk(frame, self.depth) or frames
        site.process = _is_process_wide(near, raw)
        if len(key) > 1:
            self._sites[key] = site
        return site

    def _walk(self, frame: FrameType, depth: int) -> Stack:
        stack: list[tuple[CodeType, int]] = []
        step: FrameType | None = frame
        while step is not None and len(stack) < depth:
            role = self._roles.get(id(step.f_code)) or self._classify(step.f_code, step.f_globals)
            if role == _USER:
                stack.append((step.f_code, step.f_lasti))
            elif role == _ROOT:
                break
            step = step.f_back
        return tuple(stack)

    def _classify(self, code: CodeType, module: Mapping[str, Any] | None = None) -> int:
        if module is None and code.co_filename.startswith("<"):
            return self._roles.get(id(code), _USER)  # whose it is cannot be told yet, and is not to be remembered
        role = self._roles.get(id(code))
        if role is None:
            if len(self._codes) >= LIMIT:
                self._forget()
            # Kept alive, because its id is a key; hashing code objects costs too much.
            self._codes.append(code)
            role = self._roles[id(code)] = self._role(code, module or {})
        return role

    def _role(self, code: CodeType, module: Mapping[str, Any]) -> int:
        name = code.co_filename
        if name.startswith("<frozen") or code.co_name in _INLINED:
            return _PLUMBING
        if name.startswith("<"):  # generated code belongs to the module that made it
            package = str(module.get("__name__")).partition(".")[0] + os.sep
            return _PLUMBING if package in self._plumbing else _USER
        if any(name.endswith(file) and code.co_name == function for file, function in _ROOTS):
            return _ROOT
        if name.startswith(OWN):
            return _USER if name.startswith(_DEMO) else _PLUMBING
        inside = _installed(name)
        if inside is not None:
            return _PLUMBING if inside.startswith(self._plumbing) else _USER
        return _PLUMBING if os.path.realpath(name).startswith(_STDLIB) else _USER

    def _forget(self) -> None:
        for forget in self.forgetters:
            forget()
        self._sites, self._roles, self._codes = {}, {}, []


def _installed(file: str) -> str | None:
    """Return the path of an installed library's file below the directory of installed libraries."""
    for packages in _PACKAGES:
        _, found, inside = file.rpartition(packages)
        if found:
            return inside
    return None


@lru_cache(maxsize=4096)
def package(file: str) -> str | None:
    """Return the import name of the installed library that a file is of, "" for the standard library, else None."""
    if file.startswith(OWN):
        return None if file.startswith(_DEMO) else "crawlo_otel_leaks"
    inside = _installed(file)
    if inside is not None:
        return inside.partition(os.sep)[0].removesuffix(".py")
    standard = file.startswith("<frozen") or os.path.realpath(file).startswith(_STDLIB)
    return "" if standard else None


def _raw(frame: FrameType) -> list[FrameType]:
    frames: list[FrameType] = []
    step: FrameType | None = frame
    while step is not None and len(frames) < _REACH:
        frames.append(step)
        step = step.f_back
    return frames


def _is_process_wide(near: list[FrameType], raw: list[FrameType]) -> bool:
    """Log files, and what a module takes while it is imported, live as long as the process by design."""
    if near[0].f_code.co_name == "<module>" and near[0].f_globals.get("__name__") != "__main__":
        return True
    return any(step.f_globals.get("__name__") in ("logging", "logging.handlers") for step in raw)


def resolve(stack: Stack) -> tuple[Frame, ...]:
    """Turn (code, instruction) pairs into frames with file, line and source text."""
    return tuple(_frame(code, lasti) for code, lasti in stack)


def place(site: Site) -> Frame:
    """Return the site's nearest frame without its source text: no file is read."""
    code, lasti = site.frames[0]
    return Frame(getattr(code, "co_qualname", code.co_name), _path(code), _line(code, lasti))


def _frame(code: CodeType, lasti: int) -> Frame:
    file, line = _path(code), _line(code, lasti)
    return Frame(getattr(code, "co_qualname", code.co_name), file, line, linecache.getline(file, line).strip())


def _path(code: CodeType) -> str:
    return code.co_filename if code.co_filename.startswith("<") else os.path.abspath(code.co_filename)  # noqa: PTH100


def _line(code: CodeType, lasti: int) -> int:
    lines = (line for start, end, line in code.co_lines() if start <= lasti < end and line is not None)
    return next(lines, code.co_firstlineno)


def fingerprint(kind: str, site: Site) -> str:
    """Return 16 hex digits that name the leak on every host, process and line shift.

    Hashed are the kind and, of the nearest user frames, the file below its import root, the
    function's bare name and the source text of the line: no line number, no absolute path.
    """
    if site.fingerprint is None:
        parts = [kind]
        for (code, _), frame in zip(site.frames, resolve(site.frames), strict=True):
            parts += (portable(frame.file), code.co_name, frame.text)
        site.fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return site.fingerprint


@lru_cache(maxsize=4096)
def portable(file: str) -> str:
    """Return the path below the longest import root that holds it: the same on every host."""
    roots = (os.path.join(os.path.abspath(root or "."), "") for root in sys.path)  # noqa: PTH100, PTH118
    longest = max((root for root in roots if file.startswith(root)), key=len, default="")
    return file[len(longest) :]

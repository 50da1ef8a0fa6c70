"""Who made something deep inside of the standard library: the program, a library, or nobody that can be told."""

from __future__ import annotations

import os
import threading
from asyncio import events
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.sites import package

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from crawlo_otel_leaks.sites import Sites

TOOLS: Final = frozenset(
    {
        "",  # the standard library: http.client, smtplib, asyncio ...
        "aiohappyeyeballs",
        "anyio",
        "crawlo_otel_leaks",
        "opentelemetry",
        "pytest_socket",
        "socks",
        "uvloop",
        "wrapt",
    },
)
"""Packages that make things for whoever called them."""
_TELEMETRY: Final = "opentelemetry" + os.sep


class Maker(Enum):
    """Whose affair it is how long something lives."""

    PROGRAM = "program"
    LIBRARY = "library"
    WATCHED = "watched"
    """A library whose own handles tell what becomes of it."""
    NOBODY = "nobody"
    """An event loop or a thread of the standard library's own accord."""


ROOTS: Final[dict[int, CodeType]] = {}
"""Functions, by identity, above which nobody is to be looked for: what is there started the loop, not the work."""


def root(code: CodeType) -> None:
    """Let nobody be looked for above a function."""
    ROOTS[id(code)] = code  # kept alive, because its id is a key


root(events.Handle._run.__code__)  # noqa: SLF001  (where asyncio's stacks begin)
root(threading.Thread._bootstrap_inner.__code__)  # type: ignore[attr-defined]  # noqa: SLF001  (where a thread's begins)


@lru_cache(maxsize=4096)
def tool(file: str) -> bool:
    """Whether a file's code makes things for whoever called it."""
    return package(file) in TOOLS or _TELEMETRY in file


def maker(frame: FrameType | None, sites: Sites) -> Maker:
    """Tell who made what is being made in `frame`: whose nearest frame it is that is no tool's."""
    while frame is not None:
        code = frame.f_code
        if id(code) in ROOTS:
            break
        if not tool(code.co_filename):
            name = package(code.co_filename)
            if name is None:
                return Maker.PROGRAM
            return Maker.WATCHED if sites.hides(name) else Maker.LIBRARY
        frame = frame.f_back
    return Maker.NOBODY

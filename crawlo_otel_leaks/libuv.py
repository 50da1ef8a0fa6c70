"""The descriptors that libuv's event loops, uvloop's, have for themselves and for what they serve."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks import peers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlo_otel_leaks.process import Descriptor

_INFO: Final = "/proc/self/fdinfo/"
_SPARE: Final = 2
"""Descriptors of /dev/null that a loop keeps, to have one to give up when there are no more."""

_guard: Final[list[Descriptor]] = []
"""The pipe that libuv makes with its first loop and keeps, once it was seen: the first one, both ends of it open."""


def explained(held: Mapping[int, Descriptor], unknown: set[int]) -> set[int]:
    """Return which of the unknown descriptors are libuv's: its pollers, what they poll, and what belongs to that.

    What it polls are also the connections that uvloop's servers accepted, of which Python sees nothing.
    """
    if "uvloop" not in sys.modules:
        return set()
    pollers = {number for number in unknown if held[number].type == "eventpoll"}
    found = pollers | {number for poller in pollers for number in _polled(poller)}
    found |= {number for number in unknown if held[number].type == "io_uring"}
    return (found | _pipes(held, unknown, found) | _spare(held, unknown, len(pollers))) & unknown


def _polled(poller: int) -> set[int]:
    """Return the descriptors that a poller has in its list."""
    lines = peers.read(f"{_INFO}{poller}").splitlines()
    return {int(line.split()[1]) for line in lines if line.startswith(b"tfd:")}


def _pipes(held: Mapping[int, Descriptor], unknown: set[int], found: set[int]) -> set[int]:
    """Return the other ends of the pipes that are polled, and both of the one that guards signals."""
    pipes = {number for number in unknown if held[number].type == "pipe"}
    polled = {held[number] for number in pipes & found}
    others = {number for number in pipes if held[number] in polled}
    if found and not _guard:
        rest = sorted(pipes - others)
        _guard.extend(held[a] for a, b in pairwise(rest) if held[a] == held[b])
        del _guard[1:]
    return others | {number for number in pipes if held[number] in _guard}


def _spare(held: Mapping[int, Descriptor], unknown: set[int], loops: int) -> set[int]:
    try:
        null = os.stat(os.devnull)  # noqa: PTH116  (plain and quick)
    except OSError:
        return set()
    nulls = sorted(n for n in unknown if (held[n].device, held[n].inode) == (null.st_dev, null.st_ino))
    return set(nulls[: _SPARE * loops])

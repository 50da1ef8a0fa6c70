"""What makes memory grow, on request: allocating lines and object types, between two moments some time apart."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import process
from crawlo_otel_leaks.referrers import referrers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SITES: Final = 10
"""Allocating lines named."""
TYPES: Final = 10
"""Growing types named."""
LEAST: Final = 64 * 1024
"""Bytes that a line must have added to be named."""
REST: Final = 10
"""After a window so many times its length passes before the next: at most a tenth of the time is one."""
_OURS: Final = str(Path(__file__).parent)


@dataclass(frozen=True)
class Grown:
    """What one window has shown: as data, for reports and events."""

    seconds: float
    """How long it was."""
    sites: list[dict[str, Any]] = field(default_factory=list)
    """Lines by the bytes they allocated within it that were alive at its end: file, line, growth_bytes, count."""
    types: list[dict[str, Any]] = field(default_factory=list)
    """Types by how many objects more there were, as estimated: type, first, last, growth, referrers."""


class Growth:
    """Opens a window of `window` seconds whenever memory grows; 0 for never. On the detector's thread.

    Within the window every allocation of the process is traced, which makes allocating several times slower; at its
    beginning and end all threads stop for some 0.1 s for each million objects.
    """

    def __init__(self, window: float, types: Callable[[], Mapping[str, int]] = process.object_types) -> None:
        self._window = window
        self._types = types
        self._before: Mapping[str, int] = {}
        self._opened_at: float | None = None
        self._tracing = False
        self._again = 0.0

    def look(self, now: float, *, growing: bool) -> Grown | None:
        """Open or close the window if it is time, `now` being monotonic seconds; return what a closed one showed."""
        if self._opened_at is None:
            if growing and self._window and now >= self._again:
                self._open(now)
        elif now - self._opened_at >= self._window:
            return self._close(now)
        return None

    def stop(self) -> None:
        """Leave the process as it was, whatever the window."""
        if self._tracing:
            tracemalloc.stop()
        self._tracing, self._opened_at, self._before = False, None, {}

    def _open(self, now: float) -> None:
        self._before = self._types()
        self._opened_at = now
        if not tracemalloc.is_tracing():  # where the program traces itself, it goes on after us
            tracemalloc.start()
            self._tracing = True

    def _close(self, now: float) -> Grown:
        seconds = now - (self._opened_at or now)
        sites = _sites() if self._tracing else []
        before = self._before
        self.stop()
        self._again = now + REST * self._window
        return Grown(seconds, sites, _types(before, self._types()))


def _sites() -> list[dict[str, Any]]:
    """Return the lines whose allocations are alive, the largest first; without ours."""
    found = tracemalloc.take_snapshot().statistics("lineno")
    alive = (one for one in found if one.size >= LEAST and not one.traceback[0].filename.startswith(_OURS))
    return [
        {
            "file": one.traceback[0].filename,
            "line": one.traceback[0].lineno,
            "growth_bytes": one.size,
            "count": one.count,
        }
        for one, _ in zip(alive, range(SITES), strict=False)
    ]


def _types(before: Mapping[str, int], after: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the types that grew by more than an estimate may err, the fastest first, one with its referrers."""
    growing = [(last - before.get(name, 0), name) for name, last in after.items() if grew(before.get(name, 0), last)]
    changes: list[dict[str, Any]] = [
        {"type": name, "first": before.get(name, 0), "last": after[name], "growth": growth, "referrers": []}
        for growth, name in sorted(growing, reverse=True)[:TYPES]
    ]
    own = [change for change in changes if not change["type"].startswith("builtins.")]
    for top in own[:1]:
        top["referrers"] = list(referrers(top["type"]))
    return changes


def grew(first: int, last: int) -> bool:
    """Whether a difference exceeds three standard errors of two counts, each estimated from one in `SAMPLED`."""
    return last - first > 3 * sqrt(process.SAMPLED * (first + last))

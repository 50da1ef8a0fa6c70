"""Who waited in vain, by what it was that had run out: a report has one entry for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from crawlo_otel_leaks.blame import Exhaustion

LIMIT: Final = 100
"""Things that can run out, such as pools, that are told apart; later ones are told by event and span alone."""


@dataclass
class Shortage:
    """One thing that ran out: how often, and who held it the last time."""

    newest: Exhaustion
    count: int = 0


class Shortages:
    """What ran out so far; only the detector's thread, or the end of the process, writes here."""

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], Shortage] = {}

    def add(self, exhaustion: Exhaustion) -> None:
        """Count it, and let it be the newest of its kind."""
        key = (exhaustion.kind, exhaustion.name)
        if key not in self.by_name and len(self.by_name) >= LIMIT:
            return
        shortage = self.by_name.setdefault(key, Shortage(exhaustion))
        shortage.newest = exhaustion
        shortage.count += 1

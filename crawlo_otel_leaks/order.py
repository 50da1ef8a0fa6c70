"""In which order resources are cleaned up: dependents before what they depend on."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Dependent(Protocol):
    """What can be put in order."""

    name: str
    priority: int
    depends_on: set[str]


D = TypeVar("D", bound=Dependent)


def cleanup_order(resources: Sequence[D], *, reverse: bool = True) -> list[D]:
    """Return resources, given as registered, in the order of cleanup.

    No resource comes before one that depends on it. Among those that may come next it is the one of highest
    priority, and among equals the one that was registered last; with `reverse=False`, first.
    """
    needed = Counter(name for one in resources for name in one.depends_on)
    named: defaultdict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(resources):
        named[one.name].append(place)

    def rank(place: int) -> tuple[int, int, int]:
        return -resources[place].priority, -place if reverse else place, place

    ready = [rank(place) for place, one in enumerate(resources) if not needed[one.name]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        chosen = resources[heapq.heappop(ready)[-1]]
        ordered.append(chosen)
        for name in chosen.depends_on:
            needed[name] -= 1
            if not needed[name]:
                for place in named[name]:
                    heapq.heappush(ready, rank(place))
    return ordered


def cycle(resources: Iterable[Dependent], start: str) -> list[str]:
    """Return the names of a circle of dependencies through `start`, first and last; empty if there is none."""
    depends: defaultdict[str, set[str]] = defaultdict(set)
    needed = False
    for one in resources:
        needed = needed or start in one.depends_on
        if one.depends_on:
            depends[one.name] |= one.depends_on
    if not needed:
        return []
    came_from: dict[str, str] = {}
    found = [start]
    while found:
        here = found.pop()
        for name in sorted(depends.get(here, ())):
            if name == start:
                return _path(came_from, start, here)
            if name not in came_from:
                came_from[name] = here
                found.append(name)
    return []


def _path(came_from: dict[str, str], start: str, last: str) -> list[str]:
    path = [start]
    while last != start:
        path.append(last)
        last = came_from[last]
    return [start, *reversed(path)]

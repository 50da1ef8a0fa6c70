"""Who keeps an object of a type alive: one sample's chain of referrers, by names of types and modules alone."""

from __future__ import annotations

import gc
import sys
from collections import deque
from itertools import chain
from types import CellType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.process import type_name

if TYPE_CHECKING:
    from typing import Any

DEPTH: Final = 5
"""Steps of a chain; each looks through all objects, some 0.1 s for each million of them."""
CANDIDATES: Final = 50
"""Referrers of one step that are looked at."""
_PASSING: Final[tuple[type, ...]] = (FrameType, type(iter([])), type(iter(())))


def referrers(name: str) -> tuple[str, ...]:
    """Return who refers to one of the newest objects of the type called `name`, and who to that, and so on.

    It stops all threads for as long as `DEPTH` says, and holds the one object meanwhile; not for event loops.
    Only names are told, of types, modules and their globals: what is in the objects may be secret.
    """
    found = _newest(name)
    steps: list[str] = []
    path: list[Any] = found  # what was passed already; a cycle ends the chain
    while found and len(steps) < DEPTH:
        above = _referrer(path)
        if above is None:
            break
        told, last = _told(above, path[-1])
        steps.append(told)
        if last:
            break
        path.append(above)
    return tuple(steps)


def _newest(name: str) -> list[Any]:
    """Return one of the newest objects of the type: instances of classes refer to their class."""
    every = chain.from_iterable(map(gc.get_objects, (None,)))  # consumed in C, in the midst of which nothing else runs
    kinds = [kind for kind in set(map(type, every)) if type_name(kind) == name]
    if not kinds:
        return []
    newest = deque(gc.get_referrers(kinds[0]), maxlen=CANDIDATES)
    return [one for one in newest if type(one) is kinds[0]][-1:]


def _referrer(path: list[Any]) -> object:
    """Return what keeps the last of the path: a module's globals if they do, else the first that is no passer-by."""
    passed = {id(one) for one in path} | {id(path)}
    every = gc.get_referrers(path[-1])
    passed.add(id(every))
    known = [one for one in every[:CANDIDATES] if id(one) not in passed and not isinstance(one, _PASSING)]
    return next((one for one in known if _globals_of(one)), known[0] if known else None)


def _told(above: object, below: object) -> tuple[str, bool]:
    """Return the name of a referrer, and whether the chain ends there."""
    module = _globals_of(above)
    if module:
        names = (name for name, value in list(vars(sys.modules[module]).items()) if value is below)
        return f"{module}.{next(names, '?')}", True
    if isinstance(above, ModuleType):
        return f"module {above.__name__}", True
    if isinstance(above, FunctionType):
        return f"function {above.__module__}.{above.__qualname__}", True
    if isinstance(above, type):
        return f"class {type_name(above)}", True
    if isinstance(above, CellType):
        return "closure", False
    return type_name(type(above)), False


def _globals_of(thing: object) -> str:
    """Return the name of the module whose globals a dictionary is."""
    if not isinstance(thing, dict):
        return ""
    name = dict.get(thing, "__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return str(name) if module is not None and vars(module) is thing else ""

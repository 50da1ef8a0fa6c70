"""One connection pool as the tracker sees it: who holds, who waits, what it allows."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from crawlo_otel_leaks.model import Handle

RECENT: Final = 2_000
"""Waits and creations kept between two ticks; older ones are dropped."""


class Limits(NamedTuple):
    """A pool's sizes as its library knows them; None where it has no such number."""

    max: int | None = None
    idle: int | None = None
    idle_min: int | None = None
    idle_max: int | None = None


class Wait:
    """Somebody waiting for a connection."""

    __slots__ = ("origin", "since", "span", "told")

    def __init__(self, origin: Handle, span: Span, since: float) -> None:
        self.origin = origin
        self.span = span
        self.since = since
        self.told = False


class Pool:
    """A pool, named as semantic conventions do and never by a secret. Durations are seconds."""

    def __init__(self, kind: str, name: str, read: Callable[[], Limits | None], silent: frozenset[str]) -> None:
        self.kind = kind
        self.name = name
        self.read = read
        """Returns the newest sizes, None once the library's pool is gone."""
        self.silent = silent
        """Metrics that the library, or another instrumentation, emits itself."""
        self.held: dict[Handle, None] = {}
        self.waiting: dict[Wait, None] = {}
        self.timeouts = 0
        self.waits: deque[float] = deque(maxlen=RECENT)
        self.creations: deque[float] = deque(maxlen=RECENT)

    @property
    def place(self) -> str:
        """How the pool is called in a sentence."""
        return f"pool {self.name}"


class Pools:
    """The pools of the process, by identity of the library's object, which is never kept alive."""

    def __init__(self) -> None:
        self._pools: dict[int, tuple[weakref.ref[Any], Pool]] = {}

    def of(self, thing: Any, make: Callable[[Any], Pool]) -> Pool:  # noqa: ANN401  (any library's pool)
        """Return the pool that stands for `thing`, made at first sight."""
        known = self._pools.get(id(thing))
        if known is not None and known[0]() is thing:
            return known[1]
        key = id(thing)
        pool = make(thing)
        self._pools[key] = weakref.ref(thing, lambda _: self._pools.pop(key, None)), pool
        return pool

    def all(self) -> list[Pool]:
        """Return every pool that is still there."""
        return [pool for _, pool in list(self._pools.values())]

    def clear(self) -> None:
        """Forget all; for a forked child."""
        self._pools.clear()

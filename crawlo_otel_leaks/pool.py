"""Connection pools as the tracker sees them: who holds, who waits, what they allow."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.stock import Stock

RECENT: Final = 20_000
"""Waits, creations and uses kept between two ticks; older ones are dropped."""
LOSSES: Final = 10
"""Newest losses that tell the present rate."""
SERVERS: Final = 100
"""Servers told apart whose connections no pool keeps; more share one place."""


class Limits(NamedTuple):
    """A pool's sizes as its library knows them; None where it has no such number."""

    max: int | None = None
    idle: int | None = None
    idle_min: int | None = None
    idle_max: int | None = None


class Pool:
    """A pool, named as semantic conventions do and never by a secret. Durations are seconds."""

    __slots__ = (
        "creations",
        "held",
        "kind",
        "name",
        "read",
        "silent",
        "stacked",
        "timeouts",
        "timeouts_told",
        "told",
        "uses",
        "waiting",
        "waits",
        "watch",
    )

    def __init__(
        self,
        kind: str,
        name: str,
        read: Callable[[], Limits | None],
        stock: Stock,
        silent: frozenset[str] = frozenset(),
    ) -> None:
        self.kind = kind
        self.name = name
        self.read = read
        """Returns the newest sizes, None once the library's pool is gone."""
        self.silent = silent
        """Metrics that the library, or another instrumentation, emits itself."""
        self.watch: Any = None
        """Who records what goes in and out; None where many do, and each handle knows its own."""
        self.stacked = True
        """Whether whoever asks it for something is above that on the stack, rather than in another greenlet."""
        self.held: dict[Handle, None] = stock.pool_shelf()
        """What is out, oldest first; also what was collected while the library's pool stays charged for it."""
        self.waiting: dict[Handle, None] = stock.pool_shelf()
        """What is to be held; until then, its `acquired_at` says since when somebody waits for it."""
        self.told: set[Handle] = set()
        """Those of them that were told of as waiting for long."""
        self.timeouts = 0
        self.timeouts_told = 0
        self.waits = stock.durations(RECENT)
        self.creations = stock.durations(RECENT)
        self.uses = stock.durations(RECENT)

    def eta(self, lost: list[float], now: float) -> float | None:
        """Return the seconds until nothing is left at the present rate of loss; None while nothing is being lost.

        `lost` says when each leaked connection was acquired, in monotonic seconds. The rate is that of
        the newest `LOSSES` until now, so that it falls while nothing more is lost.
        """
        limits = self.read()
        recent = sorted(lost)[-LOSSES:]
        if limits is None or limits.max is None or len(recent) < 2 or now <= recent[0]:  # noqa: PLR2004  (a rate needs two)
            return None
        rate = (len(recent) - 1) / (now - recent[0])
        return max(limits.max - len(lost), 0) / rate


class Pools:
    """The pools of the process, by identity of the library's object, which is never kept alive."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self.by_identity: dict[int, tuple[weakref.ref[Any], Pool]] = stock.by_identity()
        self._servers: dict[tuple[str, str], Pool] = {}

    def of(self, thing: Any, make: Callable[[Any], Pool]) -> Pool:  # noqa: ANN401  (any library's pool)
        """Return the pool that stands for `thing`, made at first sight."""
        key = id(thing)
        known = self.by_identity.get(key)
        if known is not None and known[0]() is thing:
            return known[1]
        pool = make(thing)
        self.by_identity[key] = weakref.ref(thing, lambda _: self.by_identity.pop(key, None)), pool
        return pool

    def known(self, thing: object) -> Pool | None:
        """Return the pool that stands for `thing`, None if nobody has asked it for anything."""
        ref, pool = self.by_identity.get(id(thing), (None, None))
        return pool if ref is not None and ref() is thing else None

    def server(self, kind: str, name: str, silent: frozenset[str]) -> Pool:
        """Return what stands for the connections to one server that are in no pool."""
        if (kind, name) not in self._servers and len(self._servers) >= SERVERS:
            name = semconv.OTHER
        return self._servers.setdefault((kind, name), Pool(kind, name, Limits, self._stock, silent))

    def __iter__(self) -> Iterator[Pool]:
        """Yield every pool that is still there, and every server, from a copy."""
        return iter([*(pool for _, pool in list(self.by_identity.values())), *list(self._servers.values())])

    def late(self, now: float, patience: float) -> Iterator[tuple[Pool, Handle]]:
        """Yield who has waited for longer than `patience` seconds, each only once."""
        for pool in self:
            waiting = list(pool.waiting)
            pool.told.intersection_update(waiting)
            for handle in waiting:
                if handle not in pool.told and now - handle.acquired_at >= patience:
                    pool.told.add(handle)
                    yield pool, handle

    def clear(self) -> None:
        """Forget all; for a forked child."""
        self.by_identity.clear()
        self._servers.clear()

"""What a leak detector notes at one moment: the process, and what is held in it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks import process, semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlo_otel_leaks.runtime import Runtime

MB: Final = 1024 * 1024
METRICS: Final = {
    "memory_mb": "memory_mb",
    "objects": "objects",
    "file_descriptors": "num_fds",
    "threads": "num_threads",
    "tasks": "tasks",
    "sockets": "sockets",
    "db_connections": "db_connections",
    "redis_connections": "redis_connections",
}
"""The metrics of an analysis, and where a snapshot has them."""


@dataclass(frozen=True)
class ResourceSnapshot:
    """One moment; None is what cannot be known."""

    name: str
    timestamp: float
    """Seconds since 1970."""
    at: float
    """Monotonic seconds."""
    memory_mb: float | None
    """Resident memory."""
    objects: int
    """Blocks that the interpreter has allocated: nearly the number of objects, without stopping the process."""
    num_fds: int | None
    num_threads: int | None
    tasks: int | None
    sockets: int | None
    db_connections: int | None
    redis_connections: int | None
    object_types: Mapping[str, int] | None = None
    """Objects by type, estimated; where they were counted."""

    @property
    def gc_objects(self) -> int:
        """The objects, under Crawlo's name for them."""
        return self.objects

    def metric(self, name: str) -> float | None:
        """Return a metric by its name in an analysis, or by Crawlo's; raise ValueError for any other."""
        attribute = METRICS.get(name, name)
        if attribute not in _KNOWN:
            raise ValueError(f"found metric {name!r}, expected one of {', '.join(METRICS)}")
        value: float | None = getattr(self, attribute)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as Crawlo has it and with what Crawlo does not know."""
        named = {attribute: self.metric(attribute) for attribute in METRICS.values() if attribute != "objects"}
        return {
            "name": self.name,
            "timestamp": self.timestamp,
            **named,
            "gc_objects": self.objects,
            "object_types": dict(self.object_types or {}),
        }


_KNOWN: Final = frozenset((*METRICS.values(), "gc_objects"))


def take(name: str, running: Runtime | None, *, types: bool | None = None) -> ResourceSnapshot:
    """Return what there is now. `types` counts objects by type, which stops all threads: 0.1 s for each million.

    None counts them unless an event loop runs on this thread.
    """
    on_loop = asyncio._get_running_loop() is not None  # noqa: SLF001  (get_running_loop raises where there is none)
    counted = not on_loop if types is None else types
    seen = process.take(types=counted)
    sockets = None if seen.fds_by_type is None else seen.fds_by_type.get("socket", 0)
    return ResourceSnapshot(
        name=name,
        timestamp=seen.wall,
        at=seen.at,
        memory_mb=None if seen.rss is None else round(seen.rss / MB, 2),
        objects=sys.getallocatedblocks(),
        num_fds=seen.fds,
        num_threads=seen.threads,
        tasks=seen.tasks,
        sockets=sockets,
        db_connections=_held(running, semconv.DB_CONNECTION),
        redis_connections=_held(running, semconv.REDIS_CONNECTION),
        object_types=seen.types,
    )


def _held(running: Runtime | None, kind: str) -> int | None:
    return None if running is None else running.tracker.count(kind)

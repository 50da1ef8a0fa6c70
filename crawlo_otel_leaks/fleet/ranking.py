"""Which fingerprints leak in most processes: sightings, added up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawlo_otel_leaks.fleet.sighting import Sighting


@dataclass(slots=True)
class _InProcess:
    """One fingerprint in one process."""

    by_reason: dict[str, int] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)

    @property
    def handles(self) -> int:
        """At least how many leaked: one that was accused twice, for two reasons, counts once."""
        return max(len(self.ids), *self.by_reason.values())


@dataclass(slots=True)
class Standing:
    """What is known of one fingerprint over all processes."""

    fingerprint: str
    kind: str
    place: str = ""
    trace_id: str = ""
    span_id: str = ""
    first_ns: int = 0
    last_ns: int = 0
    hosts: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    resolved: int = 0
    _processes: dict[str, _InProcess] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """In how many processes it was seen."""
        return len(self._processes)

    @property
    def handles(self) -> int:
        """How many handles leaked in all of them, at least."""
        return sum(one.handles for one in self._processes.values())

    @property
    def reasons(self) -> dict[str, int]:
        """Leaks by reason, the most frequent first."""
        total: Counter[str] = Counter()
        for one in self._processes.values():
            total.update(one.by_reason)
        return dict(total.most_common())

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """What standings are compared by: the wider spread, the worse."""
        return self.processes, len(self.hosts), self.handles, self.last_ns

    def take(self, seen: Sighting) -> None:
        """Add a sighting."""
        within = self._processes.setdefault(seen.process, _InProcess())
        within.by_reason[seen.reason] = max(within.by_reason.get(seen.reason, 0), seen.count)
        if seen.handle is not None:
            within.ids.add(seen.handle)
        self.hosts |= {seen.host} - {""}
        self.services |= {seen.service} - {""}
        self.resolved += seen.resolved
        self._date(seen.seen_ns)
        self.place = self.place or seen.place
        if seen.trace_id and not self.trace_id:
            self.trace_id, self.span_id = seen.trace_id, seen.span_id

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; times are seconds since 1970, null where they are not known."""
        return {
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "processes": self.processes,
            "hosts": sorted(self.hosts),
            "services": sorted(self.services),
            "handles": self.handles,
            "reasons": self.reasons,
            "resolved": self.resolved,
            "first_seen": self.first_ns / 1e9 if self.first_ns else None,
            "last_seen": self.last_ns / 1e9 if self.last_ns else None,
            "place": self.place,
            "trace_id": self.trace_id or None,
            "span_id": self.span_id or None,
        }

    def _date(self, seen_ns: int) -> None:
        if seen_ns:
            self.first_ns = min(self.first_ns or seen_ns, seen_ns)
            self.last_ns = max(self.last_ns, seen_ns)


@dataclass(slots=True)
class Ranking:
    """All fingerprints of a fleet. `unread` tells each line that could not be read."""

    _standings: dict[str, Standing] = field(default_factory=dict)
    processes: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)

    def take(self, seen: Sighting) -> None:
        """Add a sighting."""
        self.processes.add(seen.process)
        self.hosts |= {seen.host} - {""}
        self._standings.setdefault(seen.fingerprint, Standing(seen.fingerprint, seen.kind)).take(seen)

    @property
    def standings(self) -> list[Standing]:
        """The fingerprints, the widest spread first."""
        return sorted(self._standings.values(), key=lambda one: one.rank, reverse=True)

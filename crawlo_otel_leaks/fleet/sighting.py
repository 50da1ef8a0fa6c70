"""One time that a leak was told, by whom and when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """A leak span, a log event, a point of a metric or an entry of a report: what each knows of one leak.

    `count` is how many leaks of this fingerprint and reason the process had counted by then; `seen_ns` is nanoseconds
    since 1970, 0 where it is not known.
    """

    fingerprint: str
    reason: str
    kind: str
    process: str
    host: str = ""
    service: str = ""
    seen_ns: int = 0
    count: int = 1
    handle: int | None = None
    place: str = ""
    trace_id: str = ""
    span_id: str = ""
    resolved: bool = False

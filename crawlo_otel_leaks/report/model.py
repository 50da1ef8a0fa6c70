"""What a report says, as plain data in the published schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crawlo_otel_leaks.semconv import REPORT_SCHEMA


@dataclass(frozen=True)
class Entry:
    """All leaks of one fingerprint and reason. `held_s` is the longest, in seconds."""

    kind: str
    reason: str
    name: str
    held_s: float
    count: int
    fingerprint: str
    site: dict[str, Any]
    stack: list[dict[str, Any]]
    trace_id: str | None
    span_id: str | None
    owner: dict[str, str | None]
    resolved: bool


def _no_process() -> dict[str, Any]:
    return {"series": [], "changes": {}, "suspects": [], "type_changes": []}


@dataclass(frozen=True)
class Report:
    """A whole report; `as_dict` and `from_dict` are the JSON that schema crawlo-leaks/1 describes."""

    status: str
    leaks: list[Entry]
    handles: dict[str, Any] = field(default_factory=dict)
    process: dict[str, Any] = field(default_factory=_no_process)
    schema: str = REPORT_SCHEMA
    generated_at: str = ""
    command: str = ""

    @property
    def accused(self) -> list[Entry]:
        """The entries that count as leaks: neither slow nor resolved."""
        return [entry for entry in self.leaks if entry.reason != "slow" and not entry.resolved]

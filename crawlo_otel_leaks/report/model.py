"""What a report says, as plain data, and the same as JSON in the published schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.semconv import REPORT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

_MISSING: Final = object()
_TEXT: Final = (str,)
_MAYBE: Final = (str, type(None))
_NUMBER: Final = (int, float)
# What a report must hold at least; docs/report.schema.json says it in full.
_REPORT: Final = {"status": _TEXT, "leaks": (list,), "handles": (dict,), "process": (dict,)}
_ENTRY: Final = {
    "kind": _TEXT,
    "reason": _TEXT,
    "name": _TEXT,
    "held_s": _NUMBER,
    "count": (int,),
    "fingerprint": _TEXT,
    "site": (dict,),
    "stack": (list,),
    "trace_id": _MAYBE,
    "span_id": _MAYBE,
    "owner": (dict,),
    "resolved": (bool,),
}
# Lists of the process block that may be absent, and what each of their items must hold.
_PROCESS: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    "series": {"at": _NUMBER, "wall": _NUMBER},
    "suspects": {"quantity": _TEXT, "slope": _NUMBER, "confidence": _NUMBER, "eta_s": (*_NUMBER, type(None))},
    "type_changes": {"type": _TEXT, "first": _NUMBER, "last": _NUMBER, "growth": _NUMBER, "referrers": (list,)},
    "memory_sites": {"file": _TEXT, "line": (int,), "growth_bytes": _NUMBER, "count": (int,)},
}
_SHORTAGE: Final = {
    "what": _TEXT,
    "kind": _TEXT,
    "name": _TEXT,
    "held": (int,),
    "limit": (int, type(None)),
    "waited_s": _NUMBER,
    "count": (int,),
    "trace_id": _MAYBE,
    "span_id": _MAYBE,
    "holders": (list,),
}
_HOLDERS: Final = {
    "count": (int,),
    "held_s": _NUMBER,
    "where": _TEXT,
    "owner_finished": (bool,),
    "trace_id": _MAYBE,
    "span_id": _MAYBE,
}
_RUN: Final = {
    "spider": _TEXT,
    "run_id": _TEXT,
    "started": _NUMBER,
    "duration_s": (int, float, type(None)),
    "outcome": _TEXT,
    "error": _MAYBE,
    "pages": (int, type(None)),
    "verdict": _TEXT,
    "leaks": (int,),
    "fingerprints": (dict,),
    "open": (dict,),
    "before": (dict,),
    "after": (dict, type(None)),
    "rss_peak": (int, type(None)),
    "trace_id": _MAYBE,
    "span_id": _MAYBE,
}
_FRAME: Final = {"function": _TEXT, "file": _TEXT, "line": (int,)}


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
    holds: list[str] = field(default_factory=list)
    """What the handle it is shown by holds in turn."""

    @property
    def accused(self) -> bool:
        """Whether it counts as a leak: neither slow nor resolved."""
        return self.reason != "slow" and not self.resolved


@dataclass(frozen=True)
class Shortage:
    """What ran out, a pool say, how often, and who held it the last time. `waited_s` is seconds."""

    what: str
    kind: str
    name: str
    held: int
    limit: int | None
    waited_s: float
    count: int
    trace_id: str | None
    span_id: str | None
    holders: list[dict[str, Any]]
    """By place: `count`, `held_s` of the longest, `where`, `owner_finished`, `trace_id` and `span_id`."""


@dataclass(frozen=True)
class SpiderRun:
    """One run of a spider. `started` are seconds since 1970; of what ends it, nothing is known while it runs."""

    spider: str
    run_id: str
    started: float
    duration_s: float | None
    outcome: str
    """`running`, `finished`, `failed` or `cancelled`."""
    error: str | None
    """Type of the exception that ended it."""
    pages: int | None
    verdict: str
    """`healthy`, `leak_detected`, or `insufficient_data` until its grace is over."""
    leaks: int
    """Handles that it leaked and that are not released."""
    fingerprints: dict[str, int]
    """The same by the fingerprint of the entry that tells of them."""
    open: dict[str, int]
    """Handles of it that are held now, by kind."""
    before: dict[str, int | None]
    """`rss` in bytes, `fds`, `threads` and `tasks` of the process when it began ..."""
    after: dict[str, int | None] | None
    """... and when it ended."""
    rss_peak: int | None
    trace_id: str | None
    span_id: str | None


def _no_process() -> dict[str, Any]:
    return {"series": [], "changes": {}, "suspects": [], "type_changes": []}


@dataclass(frozen=True)
class Report:
    """A whole report. `left_out` counts the leaks that found no place in it any more."""

    status: str
    leaks: list[Entry]
    handles: dict[str, Any] = field(default_factory=lambda: {"by_kind": {}})
    process: dict[str, Any] = field(default_factory=_no_process)
    generated_at: str = ""
    command: str = ""
    left_out: int = 0
    shortages: list[Shortage] = field(default_factory=list)
    runs: list[SpiderRun] = field(default_factory=list)
    """Spider runs, in the order in which they began ..."""
    runs_left_out: int = 0
    """... without those that found no place in it any more."""

    @property
    def accused(self) -> list[Entry]:
        """The entries that count as leaks."""
        return [entry for entry in self.leaks if entry.accused]

    @property
    def accused_handles(self) -> int:
        """How many handles the accused entries stand for."""
        return sum(entry.count for entry in self.accused)

    @property
    def accused_places(self) -> int:
        """From how many places those were taken; a place may be accused for more than one reason."""
        return len({entry.fingerprint for entry in self.accused})

    def as_json(self) -> str:
        """Return the report in schema crawlo-leaks/1."""
        return json.dumps({"schema": REPORT_SCHEMA, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"


def report_from(data: object) -> Report:
    """Return the report that decoded JSON holds; raise ValueError naming what was found and what was expected.

    Keys that are not known are passed over: the schema may grow.
    """
    whole = _checked(data, {}, "the file")
    if whole.get("schema") != REPORT_SCHEMA:
        raise ValueError(f"found schema {whole.get('schema')!r}, expected {REPORT_SCHEMA!r}")
    _checked(data, _REPORT, "the report")
    _checked(whole["handles"], {"by_kind": (dict,)}, "handles")
    _check_process(whole["process"])
    leaks = [_entry_from(entry, f"leaks[{place}]") for place, entry in enumerate(whole["leaks"])]
    shortages = [_shortage_from(one, f"shortages[{place}]") for place, one in enumerate(whole.get("shortages", []))]
    runs = [_run_from(one, f"runs[{place}]") for place, one in enumerate(whole.get("runs", []))]
    return Report(**{**_known(Report, whole), "leaks": leaks, "shortages": shortages, "runs": runs})


def _entry_from(data: object, where: str) -> Entry:
    entry = _checked(data, _ENTRY, where)
    for place, frame in enumerate([entry["site"], *entry["stack"]]):
        _checked(frame, _FRAME, f"{where}.stack[{place - 1}]" if place else f"{where}.site")
    return Entry(**_known(Entry, entry))


def _shortage_from(data: object, where: str) -> Shortage:
    shortage = _checked(data, _SHORTAGE, where)
    for place, holders in enumerate(shortage["holders"]):
        _checked(holders, _HOLDERS, f"{where}.holders[{place}]")
    return Shortage(**_known(Shortage, shortage))


def _run_from(data: object, where: str) -> SpiderRun:
    return SpiderRun(**_known(SpiderRun, _checked(data, _RUN, where)))


def _checked(data: object, shape: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"found {type(data).__name__} for {where}, expected an object")  # noqa: TRY004  (of a file)
    for key, types in shape.items():
        value = data.get(key, _MISSING)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            found = "nothing" if value is _MISSING else repr(value)[:60]
            expected = " or ".join("null" if one is type(None) else one.__name__ for one in types)
            raise ValueError(f"found {found} for {key!r} of {where}, expected {expected}")
    return data


def _check_process(process: dict[str, Any]) -> None:
    for key, shape in _PROCESS.items():
        items = process.get(key, [])
        _checked({key: items}, {key: (list,)}, "process")
        for place, item in enumerate(items):
            _checked(item, shape, f"process.{key}[{place}]")


def _known(shape: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(shape)}
    return {key: value for key, value in data.items() if key in names}

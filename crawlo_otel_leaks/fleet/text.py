"""A ranking for a terminal or a plain file, and the same as JSON."""

from __future__ import annotations

import io
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from crawlo_otel_leaks.report.printable import printable

if TYPE_CHECKING:
    from crawlo_otel_leaks.fleet.ranking import Ranking, Standing

FULL: Final = 50
"""Fingerprints told on a terminal; of more, only how many there are."""
SCHEMA: Final = "crawlo-leaks-fleet/1"
_UNREAD: Final = 5


def as_json(ranking: Ranking) -> str:
    """Return the ranking as JSON."""
    told = {
        "schema": SCHEMA,
        "processes": len(ranking.processes),
        "hosts": len(ranking.hosts),
        "fingerprints": [one.as_dict() for one in ranking.standings],
        "unread": ranking.unread,
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def render(ranking: Ranking) -> str:
    """Return the ranking as plain text."""
    buffer = io.StringIO()
    show(ranking, Console(file=buffer, width=120, color_system=None, force_jupyter=False, highlight=False))
    return buffer.getvalue()


def show(ranking: Ranking, console: Console) -> None:
    """Print the ranking: the widest spread first."""
    _say(console, _verdict(ranking))
    standings = ranking.standings
    for place, standing in enumerate(standings[:FULL], 1):
        _show_standing(place, standing, console)
    if len(standings) > FULL:
        more = _plural(len(standings) - FULL, "more fingerprint")
        _say(console, Text(f"\nand {more}; JSON has them all", "bold"))
    for line in ranking.unread[:_UNREAD]:
        _say(console, Text(f"not read: {printable(line)}", "bold yellow"))
    if len(ranking.unread) > _UNREAD:
        _say(console, Text(f"not read: {_plural(len(ranking.unread) - _UNREAD, 'more line')}", "bold yellow"))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _verdict(ranking: Ranking) -> Text:
    if not ranking.standings:
        return Text("NO LEAKS TOLD", "bold green")
    handles = _plural(sum(one.handles for one in ranking.standings), "handle")
    spread = _spread(len(ranking.processes), len(ranking.hosts))
    return Text(f"LEAKS: {_plural(len(ranking.standings), 'fingerprint')} in {spread}, {handles}", "bold red")


def _spread(processes: int, hosts: int) -> str:
    counted = f"{processes} process" if processes == 1 else f"{processes} processes"
    return f"{counted} on {_plural(hosts, 'host')}" if hosts else counted


def _show_standing(place: int, one: Standing, console: Console) -> None:
    spread = _spread(one.processes, len(one.hosts))
    console.print()
    _say(
        console,
        Text.assemble((f"{place:>3}  ", "bold"), (spread, "bold red"), f"  {_plural(one.handles, 'handle')}  ")
        + Text(printable(one.kind), "bold"),
    )
    facts = {
        "at": one.place or "not told: only its metric was seen",
        "reasons": ", ".join(f"{reason} {count}" for reason, count in one.reasons.items()),
        "seen": _dates(one),
        "services": ", ".join(sorted(one.services)),
        "resolved": f"{one.resolved} of those announced were released later" if one.resolved else "",
        "trace": f"{one.trace_id}  span {one.span_id}" if one.trace_id else "",
        "fingerprint": one.fingerprint,
    }
    for name, value in facts.items():
        if value:
            _say(console, Text.assemble((f"     {name:<12}", "dim"), printable(value)))


def _dates(one: Standing) -> str:
    if not one.last_ns:
        return ""
    return f"first {_date(one.first_ns)}, last {_date(one.last_ns)}"


def _date(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc).isoformat(sep=" ", timespec="seconds")


def _say(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True)

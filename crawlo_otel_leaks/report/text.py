"""A report for a terminal or a plain file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from crawlo_otel_leaks.report.model import Entry, Report

_WHY = {
    "abandoned": "collected without being released",
    "owner_finished": "whoever took it has finished",
    "loop_closed": "its event loop is closed",
    "scope_end": "the scope that took it has ended",
    "process_exit": "still held when the interpreter exits",
    "held_too_long": "idle past its threshold",
    "slow": "past its threshold, but in use",
}
_VERDICTS = {"healthy": "bold green", "leak_detected": "bold red", "insufficient_data": "bold yellow"}


def render(report: Report) -> str:
    """Return the report as plain text."""
    buffer = io.StringIO()
    show(report, Console(file=buffer, width=120, no_color=True, highlight=False))
    return buffer.getvalue()


def show(report: Report, console: Console) -> None:
    """Print the report: the verdict first, then each leak with its line, owner and stack."""
    handles = sum(entry.count for entry in report.accused)
    verdict = f"{report.status}: {handles} handles from {len(report.accused)} places" if handles else report.status
    console.print(Panel(Text(verdict, style=_VERDICTS.get(report.status, "bold")), expand=False))
    for entry in report.leaks:
        _show_entry(entry, console)


def _show_entry(entry: Entry, console: Console) -> None:
    times = f"{entry.count} x " if entry.count > 1 else ""
    state = " (resolved)" if entry.resolved else ""
    console.print(Text(f"\n{times}{entry.kind} {entry.name}", style="bold"), soft_wrap=True)
    rows = {
        "why": f"{entry.reason}{state}: {_WHY.get(entry.reason, '')}; held up to {entry.held_s:.3f} s",
        "where": f"{entry.site['file']}:{entry.site['line']} in {entry.site['function']}",
        "line": entry.site.get("text", ""),
        "trace": f"{entry.trace_id}  span {entry.span_id}" if entry.trace_id else "",
        "owner": ", ".join(f"{key} {value}" for key, value in entry.owner.items() if value),
        "fingerprint": entry.fingerprint,
    }
    for title, value in rows.items():
        if value:
            console.print(Text.assemble((f"  {title:<12}", "dim"), value), soft_wrap=True)
    if len(entry.stack) > 1:
        console.print(Text("  acquired by (nearest first)", style="dim"))
        for frame in entry.stack:
            console.print(Text(f"    {frame['file']}:{frame['line']} in {frame['function']}"), soft_wrap=True)

"""A report for a terminal or a plain file."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from crawlo_otel_leaks.report.reasons import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlo_otel_leaks.report.model import Entry, Report, Shortage

FULL: Final = 20
"""Entries told in full; of more, only how many there are."""
CALLERS: Final = 6
"""Frames told of a stack, the acquiring one included; JSON and HTML have the whole."""
LATER: Final = "It was released after it had been reported, so it is not counted."
_VERDICTS: Final = {
    "healthy": ("HEALTHY", "bold green"),
    "leak_detected": ("LEAK DETECTED", "bold red"),
    "insufficient_data": ("INSUFFICIENT DATA", "bold yellow"),
}
_STYLES: Final = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def render(report: Report) -> str:
    """Return the report as plain text, whatever the environment says of colours."""
    buffer = io.StringIO()
    plain = Console(file=buffer, width=120, color_system=None, force_jupyter=False, highlight=False)
    show(report, plain)
    return buffer.getvalue()


def show(report: Report, console: Console) -> None:
    """Print the report: the verdict first, then each leak with its line, owner and stack."""
    _say(console, _verdict(report))
    for line in _about(report):
        _say(console, Text(line, "dim"))
    for entry in report.leaks[:FULL]:
        _show_entry(entry, console)
    rest = report.leaks[FULL:]
    if rest:
        console.print(Text("\n" + _rest(rest), "bold"))
    for shortage in report.shortages:
        _show_shortage(shortage, console)
    if report.left_out:
        more = f"{report.left_out} more leaks found no place in the report: it keeps a bounded number of places."
        console.print(Text("\n" + more, "bold yellow"))


def humane(seconds: float) -> str:
    """Return a length of time as people say it, in the two largest units that matter."""
    if round(seconds, 3) < 1:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:  # noqa: PLR2004  (a minute)
        return f"{seconds:.1f} s"
    parts: list[str] = []
    left = round(seconds)
    for size, unit in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def printable(text: object) -> str:
    """Return a text that cannot steer a terminal: what is not printable comes as its escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _say(console: Console, line: Text) -> None:
    # Never folded or cut by us: a path that the terminal itself wraps can still be copied whole.
    console.print(line, soft_wrap=True)


def _verdict(report: Report) -> Text:
    title, style = _VERDICTS.get(report.status, (printable(report.status), "bold"))
    places = plural(report.accused_places, "place")
    count = f": {plural(report.accused_handles, 'handle')} from {places}" if report.accused else ""
    return Text(title + count, style)


def _about(report: Report) -> Iterator[str]:
    made = " at ".join(printable(part) for part in (report.command, report.generated_at) if part)
    if made:
        yield made
    held = report.handles.get("by_kind") or {}
    if held:
        yield "live handles: " + ", ".join(f"{printable(kind)} {count}" for kind, count in held.items())


def _show_entry(entry: Entry, console: Console) -> None:
    told = words(entry.reason)
    style = _STYLES[told.level] if entry.accused else "bold cyan"
    state = f"resolved ({entry.reason})" if entry.resolved else entry.reason
    times = f"{entry.count} x " if entry.count > 1 else ""
    what = f"{times}{entry.kind} {entry.name}".rstrip()
    console.print()
    _say(
        console,
        Text.assemble((printable(state), style), "  ", (printable(what), "bold"), f"  held {humane(entry.held_s)}"),
    )
    _say(console, Text(f"  {LATER if entry.resolved else printable(told.why)}"))
    for name, value in _facts(entry):
        _say(console, Text.assemble((f"  {name:<12}", "dim"), printable(value)))


def _show_shortage(shortage: Shortage, console: Console) -> None:
    of = f"{shortage.held} of {shortage.limit}" if shortage.limit is not None else str(shortage.held)
    times = plural(shortage.count, "time")
    console.print()
    _say(
        console,
        Text.assemble(("ran out", "bold yellow"), "  ", (printable(shortage.what), "bold"), f"  {times}"),
    )
    _say(console, Text(f"  {of} held when somebody last waited {humane(shortage.waited_s)} in vain, by:"))
    for group in shortage.holders[:CALLERS]:
        finished = "  (owner finished)" if group["owner_finished"] else ""
        held = f"up to {humane(group['held_s'])}{finished}"
        _say(console, Text(f"  {group['count']} x {printable(group['where'])}  {held}"))
        if group["trace_id"]:
            _say(console, Text(f"      trace {printable(group['trace_id'])}", "dim"))
    rest = sum(group["count"] for group in shortage.holders[CALLERS:])
    if rest:
        _say(console, Text(f"  {rest} elsewhere"))


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    yield "at", _place(entry.site)
    if entry.site.get("text"):
        yield "", f"    {entry.site['text']}"
    for frame in entry.stack[1:CALLERS]:
        yield "from", _place(frame)
    if len(entry.stack) > CALLERS:
        yield "", f"{plural(len(entry.stack) - CALLERS, 'more frame')}"
    if entry.trace_id:
        yield "trace", f"{entry.trace_id}  span {entry.span_id}"
    owner = ", ".join(f"{key} {value}" for key, value in entry.owner.items() if value)
    if owner:
        yield "owner", owner
    for held in entry.holds:
        yield "holds", held
    yield "fingerprint", entry.fingerprint


def _place(frame: dict[str, Any]) -> str:
    return f"{frame['file']}:{frame['line']} in {frame['function']}"


def _rest(entries: Sequence[Entry]) -> str:
    handles = plural(sum(entry.count for entry in entries), "handle")
    kinds = Counter("resolved" if entry.resolved else entry.reason for entry in entries)
    split = ", ".join(f"{printable(reason)} {count}" for reason, count in kinds.items())
    return f"and {plural(len(entries), 'more place')} with {handles} ({split}); JSON and HTML reports have them all"

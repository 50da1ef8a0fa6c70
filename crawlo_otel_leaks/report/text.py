"""A report for a terminal or a plain file."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from crawlo_otel_leaks.report import text_process
from crawlo_otel_leaks.report.language import language
from crawlo_otel_leaks.report.printable import printable
from crawlo_otel_leaks.report.reasons import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlo_otel_leaks.report.language import Language
    from crawlo_otel_leaks.report.model import Entry, Report, Shortage

FULL: Final = 20
"""Entries told in full; of more, only how many there are."""
CALLERS: Final = 6
"""Frames told of a stack, the acquiring one included; JSON and HTML have the whole."""
MARGIN: Final = 12
"""Columns for the name of a fact."""
_VERDICTS: Final = {"healthy": "bold green", "leak_detected": "bold red", "insufficient_data": "bold yellow"}
_STYLES: Final = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def render(report: Report, lang: str = "") -> str:
    """Return the report as plain text, whatever the environment says of colours; in English unless told otherwise."""
    buffer = io.StringIO()
    plain = Console(file=buffer, width=120, color_system=None, force_jupyter=False, highlight=False)
    show(report, plain, lang)
    return buffer.getvalue()


def show(report: Report, console: Console, lang: str = "") -> None:
    """Print the report: the verdict first, then each leak with its line, owner and stack, then the process."""
    for line in _lines(report, language(lang)):
        # Never folded or cut by us: a path that the terminal itself wraps can still be copied whole.
        console.print(line, soft_wrap=True)


def _lines(report: Report, say: Language) -> Iterator[Text]:
    yield _verdict(report, say)
    for line in _about(report, say):
        yield Text(line, "dim")
    for entry in report.leaks[:FULL]:
        yield Text()
        yield from _entry(entry, say)
    rest = report.leaks[FULL:]
    if rest:
        yield Text("\n" + _rest(rest, say), "bold")
    for shortage in report.shortages:
        yield Text()
        yield from _shortage(shortage, say)
    if report.left_out:
        yield Text("\n" + say("left_out", n=report.left_out), "bold yellow")
    yield from text_process.lines(report, say)


def _verdict(report: Report, say: Language) -> Text:
    verdict = say(f"text.{report.status}") if report.status in _VERDICTS else printable(report.status)
    style = _VERDICTS.get(report.status, "bold")
    if not report.accused:
        return Text(verdict, style)
    handles, places = say.plural("handles", report.accused_handles), say.plural("places", report.accused_places)
    return Text(say("text.verdict", verdict=verdict, handles=handles, places=places), style)


def _about(report: Report, say: Language) -> Iterator[str]:
    program, time = printable(report.command), printable(report.generated_at)
    if program or time:
        yield say("text.made", program=program, time=time) if program and time else program or time
    held = report.handles.get("by_kind") or {}
    if held:
        yield say("text.live", counts=say("list").join(f"{printable(kind)} {count}" for kind, count in held.items()))


def _entry(entry: Entry, say: Language) -> Iterator[Text]:
    told = words(entry.reason, say.name)
    style = _STYLES[told.level] if entry.accused else "bold cyan"
    state = say("text.resolved" if entry.resolved else "text.reason", title=told.title, reason=entry.reason)
    what = f"{entry.kind} {entry.name}".rstrip()
    what = say("text.times", n=entry.count, what=what) if entry.count > 1 else what
    held = say("held", time=say.humane(entry.held_s))
    yield Text.assemble((printable(state), style), "  ", (printable(what), "bold"), f"  {held}")
    yield Text(f"  {say('resolved.why') if entry.resolved else printable(told.why)}")
    for name, value in _facts(entry, say):
        margin = name + " " * (MARGIN - cell_len(name))
        yield Text.assemble((f"  {margin}", "dim"), printable(value))


def _facts(entry: Entry, say: Language) -> Iterator[tuple[str, str]]:
    yield say("text.at"), _place(entry.site, say)
    if entry.site.get("text"):
        yield "", f"    {entry.site['text']}"
    for frame in entry.stack[1:CALLERS]:
        yield say("text.from"), _place(frame, say)
    if len(entry.stack) > CALLERS:
        yield "", say.plural("text.frames", len(entry.stack) - CALLERS)
    if entry.trace_id:
        yield say("text.trace"), f"{entry.trace_id}  {say('text.span')} {entry.span_id}"
    owner = say("and").join(f"{say('text.owner.' + key)} {value}" for key, value in entry.owner.items() if value)
    if owner:
        yield say("text.owner"), owner
    for held in entry.holds:
        yield say("text.holds"), held
    yield say("text.fingerprint"), entry.fingerprint


def _place(frame: dict[str, Any], say: Language) -> str:
    return say("text.frame", place=f"{frame['file']}:{frame['line']}", function=frame["function"])


def _rest(entries: Sequence[Entry], say: Language) -> str:
    kinds = Counter("resolved" if entry.resolved else entry.reason for entry in entries)
    return say(
        "text.rest",
        places=say.plural("text.more", len(entries)),
        handles=say.plural("handles", sum(entry.count for entry in entries)),
        split=say("list").join(f"{printable(reason)} {count}" for reason, count in kinds.items()),
    )


def _shortage(shortage: Shortage, say: Language) -> Iterator[Text]:
    held = str(shortage.held)
    of = held if shortage.limit is None else say("of", n=held, all=shortage.limit)
    times = say.plural("times", shortage.count)
    yield Text.assemble((say("text.ran_out"), "bold yellow"), "  ", (printable(shortage.what), "bold"), f"  {times}")
    yield Text(f"  {say('text.ran_out.by', held=of, time=say.humane(shortage.waited_s))}")
    for group in shortage.holders[:CALLERS]:
        longest = say.humane(group["held_s"])
        told = say("text.up_to.finished" if group["owner_finished"] else "text.up_to", time=longest)
        yield Text("  " + say("text.times", n=group["count"], what=f"{printable(group['where'])}  {told}"))
        if group["trace_id"]:
            yield Text(f"      {say('text.trace')} {printable(group['trace_id'])}", "dim")
    rest = sum(group["count"] for group in shortage.holders[CALLERS:])
    if rest:
        yield Text(f"  {say('elsewhere', n=rest)}")

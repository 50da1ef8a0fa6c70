"""The process, its growth and its spider runs, for a terminal or a plain file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from crawlo_otel_leaks.report.language import amount
from crawlo_otel_leaks.report.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlo_otel_leaks.report.language import Language
    from crawlo_otel_leaks.report.model import Report, SpiderRun

RUNS: Final = 20
"""Newest spider runs told; JSON and HTML have them all."""
_LOUD: Final = "bold yellow"


def lines(report: Report, say: Language) -> Iterator[Text]:
    """Yield what grows, what of, and how each run fared; nothing where there is nothing to tell."""
    block = report.process
    groups = [
        [_suspect(one, say) for one in block.get("suspects") or ()],
        [line for one in block.get("type_changes") or () for line in _type(one, say)],
        [_site(one, say) for one in block.get("memory_sites") or ()],
        list(_runs(report, say)),
    ]
    for group in filter(None, groups):
        yield Text()
        yield from group


def certainty(confidence: float) -> str:
    """Return a confidence in per cent, never more than anybody can know."""
    return f"{min(confidence * 100, 99.9):.3g}"


def _suspect(one: dict[str, Any], say: Language) -> Text:
    told = [say.rate(one["quantity"], one["slope"]), say("sure", n=certainty(one["confidence"]))]
    if one.get("eta_s") is not None:
        told.append(say("eta", time=say.humane(one["eta_s"])))
    name = printable(say(one["quantity"]))
    return Text.assemble((say("text.growing"), _LOUD), "  ", (name, "bold"), f"  {say('and').join(told)}")


def _type(one: dict[str, Any], say: Language) -> Iterator[Text]:
    change = f"{amount('', one['first'])} -> {amount('', one['last'])} ({amount('', one['growth'], signed=True)})"
    yield Text.assemble((say("text.grew"), _LOUD), "  ", (printable(one["type"]), "bold"), f"  {change}")
    if one.get("referrers"):
        yield Text(f"  {say('kept', chain=' <- '.join(map(printable, one['referrers'])))}")


def _site(one: dict[str, Any], say: Language) -> Text:
    size = amount("rss", one["growth_bytes"], signed=True)
    blocks = say("text.in_blocks", n=amount("", one["count"]))
    place = printable(f"{one['file']}:{one['line']}")
    return Text.assemble((say("text.stayed"), _LOUD), "  ", (place, "bold"), f"  {size}  {blocks}")


def _runs(report: Report, say: Language) -> Iterator[Text]:
    earlier = report.runs_left_out + len(report.runs[:-RUNS])
    if earlier:
        yield Text(say.plural("text.runs", earlier))
    for run in report.runs[-RUNS:]:
        told = say("and").join(printable(part) for part in _run(run, say))
        yield Text.assemble((say("text.run"), "bold"), "  ", (printable(run.spider), "bold"), f"  {told}")


def _run(run: SpiderRun, say: Language) -> Iterator[str]:
    """Yield what is known of a run."""
    yield _outcome(run, say)
    if run.pages is not None:
        yield say.plural("text.pages", run.pages)
    if run.duration_s is not None:
        yield say.humane(run.duration_s)
    yield say(f"run.{run.verdict}") + (f" ({say.plural('handles', run.leaks)})" if run.leaks else "")
    if run.open:
        yield say("text.still", counts=" ".join(f"{kind} {count}" for kind, count in run.open.items()))
    before, after = run.before.get("rss"), (run.after or {}).get("rss")
    if before is not None and after is not None:
        yield f"{amount('rss', before)} -> {amount('rss', after)}"


def _outcome(run: SpiderRun, say: Language) -> str:
    """Return how a run ended, with the error that ended it."""
    told = say(f"run.{run.outcome}")
    return f"{told} ({run.error})" if run.error else told

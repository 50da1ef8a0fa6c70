"""crawlo-leaks check: run a spider again and again, and fail if it leaks."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from crawlo_otel_leaks.cli import languages, paths, run
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.report import formats, text
from crawlo_otel_leaks.settings import PREFIX

if TYPE_CHECKING:
    import argparse

    from crawlo_otel_leaks.report.model import Entry, Report

_PROGRAM: Final = "crawlo_otel_leaks.cli.crawls"
_REASONS: Final = tuple(reason.value for reason in Reason if reason.is_leak)
# A spider's run takes seconds: its leaks are to be known soon after.
_DEFAULTS: Final = {f"{PREFIX}SCAN_INTERVAL": "1", f"{PREFIX}GRACE": "20", f"{PREFIX}LEVEL": "full"}
_INTERVAL: Final = 5.0
_JSON: Final = {"true": True, "false": False, "null": None}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "check",
        help="run a Crawlo spider again and again, and fail if it leaks",
        description="Run a Crawlo spider again and again until the duration is over, watched, in one event loop; wait "
        "for the grace, show what leaked, and fail if anything did. Ctrl-C ends it with the report so far. Exit codes: "
        "0 healthy, 1 leaks found, 2 usage or environment error, or no run could finish and nothing leaked.",
    )
    parser.add_argument("module", metavar="MODULE", help="module or package of spiders, such as myproject.spiders")
    parser.add_argument("spider", metavar="SPIDER", help="class or name of the spider")
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="seconds of runs (default: 60)")
    parser.add_argument(
        "--interval", type=float, metavar="S", help=f"seconds between snapshots (default: {_INTERVAL:g})"
    )
    parser.add_argument("--runs", type=int, metavar="N", help="runs at most (default: as many as the duration allows)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting; may be repeated")
    parser.add_argument(
        "--fail-on", metavar="REASON,…", help=f"reasons to fail on (default: all): {', '.join(_REASONS)}"
    )
    parser.add_argument("--baseline", metavar="FILE", help="a former JSON report: what is in it does not fail again")
    paths.add_report_option(parser)
    languages.add_option(parser)
    parser.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    task = _task(arguments)
    reasons, known = _reasons(arguments.fail_on), _baseline(arguments.baseline)
    reports, lang = paths.checked(arguments.report), languages.chosen(arguments)
    if importlib.util.find_spec("crawlo") is None:
        raise UsageError("crawlo is not installed; expected: pip install 'crawlo-otel-leaks[crawlo]'")
    code, found = run.instrumented([sys.executable, "-m", _PROGRAM, json.dumps(task)], reports, _DEFAULTS, lang)
    if code == 2:  # noqa: PLR2004  (it has said what is wrong)
        return code
    if code or not found:
        raise UsageError(
            f"the runs ended with exit code {code} and {'a' if found else 'no'} report; expected 0 and one"
        )
    text.show(found[0], Console(stderr=True), lang)
    return _verdict(found[0], reasons, known, reports)


def _task(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is to be done; raise UsageError for what makes no sense."""
    duration, runs = arguments.duration, arguments.runs
    interval = min(_INTERVAL, duration) if arguments.interval is None else arguments.interval
    if not 0 < duration < float("inf"):
        raise UsageError(f"--duration {duration:g}: expected a number of seconds above 0")
    if not 0 < interval <= duration:
        raise UsageError(f"--interval {interval:g}: expected more than 0 and at most --duration, which is {duration:g}")
    if runs is not None and runs < 1:
        raise UsageError(f"--runs {runs}: expected at least 1")
    return {
        "module": arguments.module,
        "spider": arguments.spider,
        "duration": duration,
        "interval": interval,
        "runs": runs,
        "settings": dict(_setting(pair) for pair in arguments.set),
    }


def _setting(pair: str) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if not (key and equals):
        raise UsageError(f"--set {pair}: expected KEY=VALUE, such as CONCURRENCY=16")
    if value in _JSON:
        return key, _JSON[value]
    with contextlib.suppress(ValueError, SyntaxError):
        return key, ast.literal_eval(value)
    return key, value


def _reasons(chosen: str | None) -> frozenset[str]:
    reasons = frozenset(_REASONS if chosen is None else (one.strip() for one in chosen.split(",")))
    unknown = sorted(reasons - set(_REASONS))
    if unknown:
        raise UsageError(f"--fail-on {chosen}: {unknown[0]!r} is no reason; expected some of {', '.join(_REASONS)}")
    return reasons


def _baseline(path: str | None) -> frozenset[str]:
    """Return the fingerprints that are known already."""
    if path is None:
        return frozenset()
    try:
        return frozenset(entry.fingerprint for entry in formats.read(path).leaks)
    except (OSError, ValueError) as error:
        raise UsageError(f"--baseline {path}: {error}; expected the JSON report of an earlier check") from error


def _verdict(report: Report, reasons: frozenset[str], known: frozenset[str], reports: list[str]) -> int:
    console = Console(stderr=True)
    failing = [entry for entry in report.accused if entry.reason in reasons and entry.fingerprint not in known]
    ended = [one for one in report.runs if one.outcome == "finished"]
    for line in (
        _summary(report),
        *_spared(report, failing, reasons, known),
        *(f"written: {path}" for path in reports),
    ):
        console.print(line, highlight=False, markup=False)
    if not failing and not ended:
        raise UsageError(f"no run finished ({_outcomes(report)}); expected at least one, to call the spider healthy")
    return int(bool(failing))


def _summary(report: Report) -> str:
    pages = sum(one.pages or 0 for one in report.runs)
    return f"runs  {len(report.runs) + report.runs_left_out} ({_outcomes(report)}), {pages} pages"


def _outcomes(report: Report) -> str:
    told = {f"{one.outcome} {one.error}" if one.error else one.outcome for one in report.runs}
    counts = {
        one: sum((f"{run.outcome} {run.error}" if run.error else run.outcome) == one for run in report.runs)
        for one in told
    }
    return ", ".join(f"{count} {one}" for one, count in sorted(counts.items())) or "none began"


def _spared(report: Report, failing: list[Entry], reasons: frozenset[str], known: frozenset[str]) -> list[str]:
    """Tell of leaks that do not fail the check, and why."""
    spared = [entry for entry in report.accused if entry not in failing]
    old = sum(entry.fingerprint in known for entry in spared)
    other = sum(entry.fingerprint not in known and entry.reason not in reasons for entry in spared)
    lines = [(old, "known from the baseline"), (other, "for reasons that --fail-on leaves out")]
    return [f"not counted  {count} {why}" for count, why in lines if count]

"""crawlo-leaks report: show a JSON report, turn it into another format, or rank the leaks of many processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from crawlo_otel_leaks import fleet
from crawlo_otel_leaks.cli import languages, paths
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.report import formats, html, text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_OF_A_FLEET: Final[dict[str, Callable[[fleet.Ranking], str]]] = {".json": fleet.as_json, ".txt": fleet.render}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "report",
        help="show a report, turn it into another format, or rank the leaks of many processes",
        description="Show a JSON report on the terminal; with --report also write it as HTML, SARIF or text. "
        "Of OTLP JSON lines, as a collector's file exporter writes them, or of several files, rank the fingerprints "
        "by processes, hosts and handles; with --report also write that as JSON or text.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a JSON report, or OTLP JSON lines")
    paths.add_report_option(parser)
    parser.add_argument(
        "--trace-url",
        default="",
        metavar="URL",
        help="where the HTML page links traces to, e.g. http://localhost:16686/trace/{trace_id}",
    )
    languages.add_option(parser)
    parser.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    try:
        if len(arguments.files) == 1 and not fleet.holds_otlp(arguments.files[0]):
            return _one(arguments)
        return _many(arguments)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error


def _one(arguments: argparse.Namespace) -> int:
    lang = languages.chosen(arguments)
    report = formats.read(arguments.files[0])
    for path in paths.checked(arguments.report):
        formats.write(report, path, html.Page(arguments.trace_url, lang))
    text.show(report, Console(), lang)
    return int(bool(report.accused))


def _many(arguments: argparse.Namespace) -> int:
    targets = paths.checked(arguments.report)
    for path in targets:
        if Path(path).suffix not in _OF_A_FLEET:
            raise UsageError(f"--report {path}: of many processes there is {' and '.join(_OF_A_FLEET)}")
    ranking = fleet.read(arguments.files)
    for path in targets:
        body = _OF_A_FLEET[Path(path).suffix](ranking)
        Path(path).write_text(body, encoding="utf-8", errors="backslashreplace")
    fleet.show(ranking, Console())
    return int(bool(ranking.standings))

"""crawlo-leaks report: show a JSON report, or turn it into another format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from crawlo_otel_leaks.cli import languages, paths
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.report import formats, html, text

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "report",
        help="show a report, or turn it into another format",
        description="Show a JSON report on the terminal; with --report also write it as HTML, SARIF or text.",
    )
    parser.add_argument("file", metavar="FILE", help="a JSON report")
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
    lang = languages.chosen(arguments)
    try:
        report = formats.read(arguments.file)
        for path in paths.checked(arguments.report):
            formats.write(report, path, html.Page(arguments.trace_url, lang))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    text.show(report, Console(), lang)
    return int(bool(report.accused))

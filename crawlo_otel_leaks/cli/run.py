"""crawlo-leaks run: run a program under opentelemetry-instrument, then show what it leaked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from crawlo_otel_leaks.cli import languages, paths
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.report import formats, text
from crawlo_otel_leaks.settings import PREFIX

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from crawlo_otel_leaks.report.model import Report

_INSTRUMENT = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "run",
        help="run a program and show what it leaked",
        description="Run a program under opentelemetry-instrument. Its output and its exit code are its own; "
        "what leaked is shown on stderr. A program that succeeds but leaks makes the exit code 1.",
        usage="crawlo-leaks run [--report PATH] [--lang LANG] -- python app.py ...",
    )
    paths.add_report_option(parser)
    languages.add_option(parser)
    parser.add_argument("program", nargs="+", metavar="-- PROGRAM", help="the program and its arguments")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    lang = languages.chosen(arguments)
    code, found = instrumented(arguments.program, paths.checked(arguments.report), {}, lang)
    if not found:
        if code == 0:
            raise UsageError(
                f"{arguments.program[0]} ended without a report; expected a Python program that ends by itself "
                f"in an environment where crawlo-otel-leaks is installed, with {PREFIX}ENABLED and _LEVEL not off",
            )
        return code
    for report in found:
        text.show(report, Console(stderr=True), lang)
    return code or int(any(report.accused for report in found))


def instrumented(
    program: list[str],
    reports: list[str],
    defaults: Mapping[str, str],
    lang: str = "",
) -> tuple[int, list[Report]]:
    """Run `program` to its end, its reports in `lang`; return its exit code (128 + n for signal n) and what was found.

    That is the report of the program itself, if it left one, and those of its child processes that leaked.

    Without an OTLP endpoint in the environment its telemetry goes nowhere, rather than to a collector
    that is not there. Raise UsageError if the program does not exist.
    """
    if shutil.which(program[0]) is None:
        raise UsageError(f"{program[0]}: no such program; expected `crawlo-leaks run -- python app.py`")
    with tempfile.TemporaryDirectory(prefix="crawlo-leaks-") as folder:
        own = Path(folder, "report.json")
        environment = _environment([*reports, str(own)], defaults, lang)
        child = subprocess.Popen([sys.executable, "-c", _INSTRUMENT, *program], env=environment)  # noqa: S603  (the user's own command)
        with _forwarding(child):
            code = child.wait()
        found = [formats.read(str(own))] if own.exists() else []
        children = [formats.read(str(path)) for path in sorted(Path(folder).glob("report.*.json"))]
    return (code if code >= 0 else 128 - code), found + [report for report in children if report.leaks]


def _environment(reports: list[str], defaults: Mapping[str, str], lang: str) -> dict[str, str]:
    environment = {**defaults, **os.environ}
    if lang:
        environment[f"{PREFIX}LANG"] = lang
    asked = environment.get(f"{PREFIX}REPORT")
    environment[f"{PREFIX}REPORT"] = os.pathsep.join([*([asked] if asked else []), *reports])
    if not any(name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("ENDPOINT") for name in environment):
        for signal_name in ("TRACES", "METRICS", "LOGS"):
            environment.setdefault(f"OTEL_{signal_name}_EXPORTER", "none")
    return environment


@contextlib.contextmanager
def _forwarding(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand signals on: the program decides what they mean, and we stay for its report."""

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    # A terminal sends Ctrl-C to the child itself.
    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    if sys.stdin is not None and sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

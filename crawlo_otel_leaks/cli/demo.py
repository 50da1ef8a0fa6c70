"""crawlo-leaks demo: a small leaky crawler, and what is found in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

from crawlo_otel_leaks.cli import languages, paths, run
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.demo import servers
from crawlo_otel_leaks.report import text
from crawlo_otel_leaks.settings import PREFIX

if TYPE_CHECKING:
    import argparse

_PROGRAM = "crawlo_otel_leaks.demo.crawler"
# A demo should not take the minutes that production deserves.
_HASTE = {f"{PREFIX}GRACE": "0.6", f"{PREFIX}SCAN_INTERVAL": "0.2", f"{PREFIX}LEVEL": "full"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="run a small leaky crawler and show its leaks",
        description="Run a small crawler, leaky or clean, on a web site, a Valkey and a PostgreSQL of its own, "
        "and show what it leaked. Exit code 0 if the leaky one was seen to leak, or the clean one to be clean.",
    )
    parser.add_argument("--clean", action="store_true", help="run the clean twin")
    paths.add_report_option(parser)
    languages.add_option(parser)
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    reports, lang = paths.checked(arguments.report), languages.chosen(arguments)
    program = [sys.executable, "-m", _PROGRAM, *(["--clean"] if arguments.clean else [])]
    try:
        with servers.serving() as where:
            code, found = run.instrumented(program, reports, {**_HASTE, **where}, lang)
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; expected: pip install 'crawlo-otel-leaks[demo]'") from error
    if code or not found:
        return code or 1
    console = Console(stderr=True)
    text.show(found[0], console, lang)
    for path in reports:
        console.print(f"written: {path}", highlight=False, markup=False)
    return int(bool(found[0].accused) == arguments.clean)

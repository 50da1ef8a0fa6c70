"""The crawlo-leaks command: one file a subcommand."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from crawlo_otel_leaks.cli import check, demo, report, run, top
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (run, check, demo, report, top)
HEALTHY, LEAKS, USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return 0 if all is healthy, 1 if leaks were found, 2 for a wrong call or environment."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except UsageError as error:
        print(f"crawlo-leaks: {error}", file=sys.stderr)  # noqa: T201  (a command's own voice)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crawlo-leaks",
        description="Find unreleased files, sessions and connections, and the lines that acquired them.",
        epilog="exit codes: 0 healthy, 1 leaks found, 2 usage or environment error",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser

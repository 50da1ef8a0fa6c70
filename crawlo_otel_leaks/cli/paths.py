"""Report paths as command-line options, checked before anything runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.settings import REPORT_SUFFIXES

if TYPE_CHECKING:
    import argparse


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """Add `--report PATH`, which may be given several times."""
    parser.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="PATH",
        help=f"write a report there, its format by suffix: {', '.join(REPORT_SUFFIXES)}; may be repeated",
    )


def checked(paths: list[str]) -> list[str]:
    """Return the paths, absolute; raise UsageError for one that could not be written."""
    for path in paths:
        folder = Path(path).absolute().parent
        if not path.endswith(REPORT_SUFFIXES):
            raise UsageError(f"--report {path}: expected a path ending in one of {', '.join(REPORT_SUFFIXES)}")
        if os.pathsep in path:
            raise UsageError(f"--report {path}: expected a path without {os.pathsep!r}")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageError(f"--report {path}: {folder} is no folder that can be written to")
    return [str(Path(path).absolute()) for path in paths]

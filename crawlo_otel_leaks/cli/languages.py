"""The language of a command, as an option."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.report.language import from_locale
from crawlo_otel_leaks.settings import LANGUAGES, PREFIX, Settings

if TYPE_CHECKING:
    import argparse


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--lang`."""
    parser.add_argument(
        "--lang",
        default="",
        metavar="LANG",
        help=f"language of reports, one of {', '.join(LANGUAGES)}; by default {PREFIX}LANG, else the locale's",
    )


def chosen(arguments: argparse.Namespace) -> str:
    """Return the language asked for by option, setting or locale; the empty name if by none.

    Raise UsageError for an option that makes no sense; a setting that makes none is told where it is used.
    """
    if arguments.lang and arguments.lang not in LANGUAGES:
        raise UsageError(f"lang={arguments.lang!r}: expected one of {', '.join(LANGUAGES)}")
    settings, _ = Settings.from_env()
    return arguments.lang or settings.lang or from_locale()

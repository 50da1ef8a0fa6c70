"""One report, one file, its format told by the suffix; and back from JSON."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.report import html, sarif
from crawlo_otel_leaks.report.model import report_from
from crawlo_otel_leaks.semconv import REPORT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.report.model import Report


def _text(report: Report, page: html.Page) -> str:
    from crawlo_otel_leaks.report import text  # noqa: PLC0415  (rich would be a sixth of what our start costs)

    return text.render(report, page.lang)


_FORMATS: Final[dict[str, Callable[[Report, html.Page], str]]] = {
    ".html": html.render,
    ".json": lambda report, _: report.as_json(),
    ".sarif": lambda report, _: sarif.render(report),
    ".txt": _text,
}


class ReportError(ValueError):
    """A file that is no report, or a name that tells no format: the text says what was found and expected."""


def write(report: Report, path: str, page: html.Page = html.PLAIN) -> None:
    """Write the report whole or not at all; `page` is what its reader chose.

    Raise ReportError for a suffix that is none of ours, OSError if the path cannot be written.
    """
    body = _renderer(path)(report, page)
    target = Path(os.path.realpath(path))
    # Written beside and renamed, so that a reader, or a full disk, never sees half a report.
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # A file name that is no UTF-8 arrives as lone surrogates; their escapes are right in JSON too.
        beside.write_text(body, encoding="utf-8", errors="backslashreplace")
        beside.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _renderer(path: str) -> Callable[[Report, html.Page], str]:
    for suffix, render in _FORMATS.items():
        if path.endswith(suffix):
            return render
    raise ReportError(f"{path}: found no format in the name; expected it to end in one of {', '.join(_FORMATS)}")


def read(path: str) -> Report:
    """Return the report in a JSON file; raise ReportError if it holds none, OSError if it cannot be read."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: found no JSON ({error}); expected a report in schema {REPORT_SCHEMA!r}") from error
    try:
        return report_from(data)
    except ValueError as error:
        raise ReportError(f"{path} is no report this version can read: {error}") from error

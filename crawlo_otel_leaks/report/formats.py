"""One report, one file, its format told by the suffix; and back from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.report import html, sarif, text
from crawlo_otel_leaks.report.model import Entry, Report
from crawlo_otel_leaks.semconv import REPORT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable


class ReportError(ValueError):
    """A file that is no report; the text says what was found and what was expected."""


def as_json(report: Report) -> str:
    """Return the report in schema crawlo-leaks/1."""
    return json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"


_FORMATS: dict[str, Callable[[Report], str]] = {
    ".html": lambda report: html.render(as_json(report)),
    ".json": as_json,
    ".sarif": sarif.render,
    ".txt": text.render,
}


def write(report: Report, path: str) -> None:
    """Write the report; raise OSError if the path cannot be written, KeyError for a suffix that is none of ours."""
    target = Path(path)
    body = _FORMATS[target.suffix](report)
    # Written beside and renamed, so that a reader, or a full disk, never sees half a report.
    beside = target.with_name(f".{target.name}.part")
    try:
        beside.write_text(body, encoding="utf-8")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def read(path: str) -> Report:
    """Return the report in a JSON file; raise ReportError if it holds none, OSError if it cannot be read."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} holds no JSON ({error}); expected a report in schema {REPORT_SCHEMA}") from error
    found = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if found != REPORT_SCHEMA:
        raise ReportError(f"{path} has schema {found!r}; expected {REPORT_SCHEMA!r}")
    try:
        entries = [Entry(**_known(Entry, entry)) for entry in data["leaks"]]
        return Report(**{**_known(Report, data), "leaks": entries})
    except (KeyError, TypeError) as error:
        raise ReportError(f"{path} is no whole report ({error}); expected schema {REPORT_SCHEMA}") from error


def _known(shape: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(shape)}
    return {key: value for key, value in data.items() if key in names}

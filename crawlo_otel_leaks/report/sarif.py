"""A report as SARIF 2.1.0, which code hosts show beside the lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from crawlo_otel_leaks.report.language import language
from crawlo_otel_leaks.report.reasons import REASONS, words
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from crawlo_otel_leaks.report.model import Entry, Report

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES: Final = list(REASONS)


def render(report: Report) -> str:
    """Return the SARIF log; a resolved or slow entry is a note, any other a warning or an error."""
    driver = {"name": "crawlo-otel-leaks", "version": __version__, "rules": [_rule(reason) for reason in _RULES]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(entry) for entry in report.leaks],
        "properties": {"status": report.status, "left_out": report.left_out},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(reason: str) -> dict[str, Any]:
    told = words(reason)
    return {
        "id": reason,
        "name": reason.title().replace("_", ""),
        "shortDescription": {"text": f"Unreleased handle: {told.title.lower()}"},
        "fullDescription": {"text": told.why},
        "help": {"text": f"{told.why} {told.remedy}"},
        "defaultConfiguration": {"level": told.level},
    }


def _result(entry: Entry) -> dict[str, Any]:
    result = {
        "ruleId": entry.reason,
        "level": words(entry.reason).level if entry.accused else "note",
        "message": {"text": _message(entry)},
        "locations": [_location(entry.site)],
        "partialFingerprints": {"crawloLeak/v1": entry.fingerprint},
        "occurrenceCount": max(entry.count, 1),
        "properties": {"held_s": entry.held_s, "trace_id": entry.trace_id, "span_id": entry.span_id},
    }
    if entry.reason in REASONS:
        result["ruleIndex"] = _RULES.index(entry.reason)
    if entry.stack:
        result["stacks"] = [{"frames": [{"location": _location(frame)} for frame in entry.stack]}]
    return result


def _message(entry: Entry) -> str:
    english = language("en")
    what = " ".join(part for part in (entry.kind, entry.name) if part)
    why = english("resolved.why") if entry.resolved else words(entry.reason).why
    return f"{entry.count} x {what}, held {english.humane(entry.held_s)}. {why}"


def _location(frame: dict[str, Any]) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": _artifact(str(frame["file"])),
            "region": {"startLine": max(int(frame["line"]), 1)},
        },
        "logicalLocations": [{"fullyQualifiedName": frame["function"], "kind": "function"}],
    }


def _artifact(file: str) -> dict[str, str]:
    """Code hosts look for files below the repository's root, which is where a build runs."""
    path = Path(file)
    if path.is_absolute() and not path.is_relative_to(Path.cwd()):
        return {"uri": path.as_uri()}
    inside = path.relative_to(Path.cwd()) if path.is_absolute() else path
    return {"uri": quote(inside.as_posix(), errors="surrogateescape"), "uriBaseId": "%SRCROOT%"}

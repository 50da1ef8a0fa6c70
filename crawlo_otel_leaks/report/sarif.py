"""A report as SARIF 2.1.0, which code hosts show beside the lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.sites import portable
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from crawlo_otel_leaks.report.model import Entry, Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: Report) -> str:
    """Return the SARIF log; a resolved or slow entry is a note, any other an error."""
    reasons = sorted({entry.reason for entry in report.leaks})
    driver = {
        "name": "crawlo-otel-leaks",
        "version": __version__,
        "rules": [{"id": reason, "name": reason} for reason in reasons],
    }
    results = [_result(entry) for entry in report.leaks]
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _result(entry: Entry) -> dict[str, Any]:
    frames = [{"location": _location(frame)} for frame in entry.stack]
    return {
        "ruleId": entry.reason,
        "level": "note" if entry.resolved or entry.reason == "slow" else "error",
        "message": {"text": f"{entry.count} x {entry.kind} {entry.name}: {entry.reason}, held {entry.held_s:.3f} s"},
        "locations": [_location(entry.site)],
        "stacks": [{"frames": frames}] if frames else [],
        "partialFingerprints": {"crawloLeak/v1": entry.fingerprint},
    }


def _location(frame: dict[str, Any]) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": portable(str(frame["file"]))},
            "region": {"startLine": max(int(frame["line"]), 1)},
        },
        "logicalLocations": [{"fullyQualifiedName": frame["function"]}],
    }

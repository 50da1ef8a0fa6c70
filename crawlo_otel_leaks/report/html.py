"""A report as one page that needs no network: the template, with the JSON report inside."""

from __future__ import annotations

from importlib import resources

_PLACE = "/*REPORT*/null"


def render(report_json: str) -> str:
    """Return the page. The JSON is escaped so that nothing in it can end the script element."""
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    safe = report_json.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return template.replace(_PLACE, safe)

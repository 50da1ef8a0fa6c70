"""A report as one page that needs no network: the template, with the JSON report inside."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from crawlo_otel_leaks.report.model import Report

LANGUAGES: Final = ("en", "zh")


@dataclass(frozen=True)
class Page:
    """What a reader may choose: where traces are shown, as a URL with `{trace_id}`, and the language.

    Without a language the reader's browser decides. Raise ValueError for what makes no sense.
    """

    trace_url: str = ""
    lang: str = ""

    def __post_init__(self) -> None:
        usable = self.trace_url.startswith(("http://", "https://")) and "{trace_id}" in self.trace_url
        if self.trace_url and not usable:
            raise ValueError(f"trace_url={self.trace_url!r}: expected an http or https URL that contains {{trace_id}}")
        if self.lang and self.lang not in LANGUAGES:
            raise ValueError(f"lang={self.lang!r}: expected one of {', '.join(LANGUAGES)}")


PLAIN: Final = Page()


def render(report: Report, page: Page = PLAIN) -> str:
    """Return the page. Its policy allows no request, and no script but the template's own."""
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    script = template.rpartition("<script>")[2].partition("</script>")[0]
    choices = json.dumps({"trace_url": page.trace_url, "lang": page.lang})
    # The report comes last, for what it holds may look like a placeholder.
    fills = {"{{SCRIPT}}": _digest(script), "{{PAGE}}": _inert(choices), "{{REPORT}}": _inert(report.as_json())}
    for place, fill in fills.items():
        template = template.replace(place, fill, 1)
    return template


def _inert(data: str) -> str:
    """Escape JSON so that nothing in it can end the script element that carries it."""
    return data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

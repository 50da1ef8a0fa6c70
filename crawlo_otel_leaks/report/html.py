"""A report as one page that needs no network: the template and its parts, with the JSON report inside."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.report.language import language
from crawlo_otel_leaks.settings import LANGUAGES

if TYPE_CHECKING:
    from crawlo_otel_leaks.report.model import Report

_SCRIPTS: Final = ("base.js", "leaks.js", "charts.js", "process.js", "main.js")


@dataclass(frozen=True)
class Page:
    """What a reader may choose: where traces are shown, as a URL with `{trace_id}`, and the language.

    Without a language the reader's browser decides, and a text is English. Raise ValueError for what makes no sense.
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
    """Return the page. Its policy allows no request, and no script but our own."""
    choices = json.dumps({"trace_url": page.trace_url, "lang": page.lang})
    # The report comes last, for what it holds may look like a placeholder.
    return _fill(template(), {"{{PAGE}}": _inert(choices), "{{REPORT}}": _inert(report.as_json())})


@cache
def template() -> str:
    """Return the page without a report and a reader's choices."""
    script = "\n" + "\n".join(map(_part, _SCRIPTS))
    fills = {
        "{{DIGEST}}": _digest(script),
        "{{STYLE}}": _part("page.css"),
        "{{TEXTS}}": _inert(json.dumps({name: _texts(name) for name in LANGUAGES}, ensure_ascii=False)),
        "{{SCRIPT}}": script,
    }
    return _fill(_part("page.html"), fills)


def _fill(body: str, fills: dict[str, str]) -> str:
    for place, fill in fills.items():
        body = body.replace(place, fill, 1)
    return body


def _part(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _texts(name: str) -> dict[str, str]:
    """Return the page's own texts: those of the terminal alone stay out."""
    return {key: text for key, text in language(name).texts.items() if not key.startswith("text.")}


def _inert(data: str) -> str:
    """Escape JSON so that nothing in it can end the script element that carries it."""
    return data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

"""What was found, for people and programs: text, JSON, HTML, SARIF."""

from crawlo_otel_leaks.report.build import build
from crawlo_otel_leaks.report.formats import write
from crawlo_otel_leaks.report.html import Page
from crawlo_otel_leaks.report.language import from_locale

__all__ = ["Page", "build", "from_locale", "write"]

"""The leaks of many processes, told from what a collector wrote of them."""

from crawlo_otel_leaks.fleet.files import holds_otlp, read
from crawlo_otel_leaks.fleet.ranking import Ranking
from crawlo_otel_leaks.fleet.text import as_json, render, show

__all__ = ["Ranking", "as_json", "holds_otlp", "read", "render", "show"]

"""What reports say in each language: one table a language, and how numbers are told in it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.settings import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
BYTES: Final = frozenset({"rss"})
"""Quantities in bytes; the others are numbers of things."""
_SIZES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
_PLACE: Final = re.compile(r"{(\w+)}")
_LOCALES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")


@dataclass(frozen=True)
class Language:
    """One language's texts, by key; `{name}` in a text is filled in."""

    name: str
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the text; what has none (a verdict of a later version, say) is told as it is."""
        return _PLACE.sub(lambda found: str(values.get(found[1], found[0])), self.texts.get(key, key))

    def plural(self, key: str, n: int) -> str:
        """Return a count with its noun."""
        return self(f"{key}.one" if n == 1 else key, n=n)

    def humane(self, seconds: float) -> str:
        """Return a length of time as people say it, in the two largest units that matter."""
        if round(seconds, 3) < 1:
            return self("ms", n=f"{seconds * 1000:.0f}")
        if round(seconds, 1) < 60:  # noqa: PLR2004  (a minute)
            return self("s", n=f"{seconds:.1f}")
        parts: list[str] = []
        left = round(seconds)
        for size, unit in UNITS:
            if left >= size or parts:
                parts.append(self(unit, n=left // size))
                left %= size
        return " ".join(parts[:2])

    def rate(self, quantity: str, slope: float) -> str:
        """Return a change per second as one per the shortest time in which it is seen."""
        least = 100 * 1024 if quantity in BYTES else 1
        for seconds, unit in reversed(UNITS):
            if abs(slope) * seconds >= least or unit == "d":
                break
        return self(f"per.{unit}", n=amount(quantity, slope * seconds, signed=True))


def amount(quantity: str, value: float, *, signed: bool = False) -> str:
    """Return a value of a quantity with its unit; `signed` for changes."""
    sign = "+" if signed and value > 0 else ""
    if quantity not in BYTES:
        return sign + (f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.1f}")  # noqa: PLR2004
    for size, unit in _SIZES:
        if abs(value) >= size or unit == "KiB":
            break
    return f"{sign}{value / size:,.1f} {unit}"


@cache
def language(name: str) -> Language:
    """Return a language by its name, one of `LANGUAGES`; English for the empty name."""
    name = name or LANGUAGES[0]
    table = resources.files(__package__) / "texts" / f"{name}.json"
    return Language(name, json.loads(table.read_text(encoding="utf-8")))


def from_locale(environ: Mapping[str, str] = os.environ) -> str:
    """Return the language that the locale asks for; the empty name if it asks for none that there is."""
    locale = next(filter(None, (environ.get(name) for name in _LOCALES)), "")
    name = re.split(r"\W|_", locale.lower(), maxsplit=1)[0]
    return name if name in LANGUAGES else ""

"""Each verdict in plain words: what it means, what to do, how sure it is."""

from __future__ import annotations

from typing import Final, NamedTuple

from crawlo_otel_leaks.report.language import language

LEVELS: Final = {
    "abandoned": "error",
    "owner_finished": "error",
    "loop_closed": "error",
    "scope_end": "error",
    "process_exit": "warning",
    "held_too_long": "warning",
    "slow": "note",
}
"""SARIF's: error is certain or nearly so, warning likely, note no leak."""


class Words(NamedTuple):
    """How a reason is told; `level` is one of `LEVELS`."""

    title: str
    why: str
    remedy: str
    level: str


def words(reason: str, lang: str = "") -> Words:
    """Return how a reason is told; a report of a later version may hold one that is not known."""
    say = language(lang)
    if reason not in LEVELS:
        return Words(reason, say("strange.why", reason=reason), "", "warning")
    return Words(say(reason), say(f"{reason}.why"), say(f"{reason}.remedy"), LEVELS[reason])


REASONS: Final = {reason: words(reason) for reason in LEVELS}
"""In English."""

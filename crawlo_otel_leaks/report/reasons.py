"""Each verdict in plain words: what it means, what to do, how sure it is."""

from __future__ import annotations

from typing import Final, NamedTuple


class Words(NamedTuple):
    """How a reason is told. `level` is SARIF's: error is certain or nearly so, warning likely, note no leak."""

    title: str
    why: str
    remedy: str
    level: str


REASONS: Final = {
    "abandoned": Words(
        "Abandoned",
        "The object was garbage-collected without ever being released.",
        "Use a with statement, or close it in a finally block, where it is acquired.",
        "error",
    ),
    "owner_finished": Words(
        "Owner finished",
        "The span or task that acquired it has finished, and it is still held.",
        "Release it before the request, task or span that needs it ends, or adopt() it if it is shared by design.",
        "error",
    ),
    "loop_closed": Words(
        "Loop closed",
        "Its event loop is closed, so nothing can release it properly any more.",
        "Await its close before the event loop ends.",
        "error",
    ),
    "scope_end": Words(
        "Scope ended",
        "The monitored scope that acquired it has ended, and it is still held.",
        "Release it before the scope ends, or adopt() it if it belongs to the process.",
        "error",
    ),
    "process_exit": Words(
        "Held at exit",
        "It was still held when the interpreter exited.",
        "Release it on the way out, or adopt() it if it lives as long as the process by design.",
        "warning",
    ),
    "held_too_long": Words(
        "Held too long",
        "It has been idle for longer than its threshold.",
        "Release it when the work is done, or raise the threshold of its kind in CRAWLO_OTEL_LEAKS_THRESHOLDS.",
        "warning",
    ),
    "slow": Words(
        "Slow",
        "It is past its threshold but in use right now: told, not counted as a leak.",
        "Nothing leaks here; see whether the work should take that long.",
        "note",
    ),
}
_STRANGE: Final = Words("", "", "", "warning")


def words(reason: str) -> Words:
    """Return how a reason is told; a report of a later version may hold one that is not known."""
    return REASONS.get(reason, _STRANGE._replace(title=reason, why=f"Reported as {reason}."))

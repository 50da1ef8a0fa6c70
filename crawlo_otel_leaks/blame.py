"""Who holds what somebody waits for in vain: the sentence for an exception, a span and the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks import owner, semconv, sites

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

    from crawlo_otel_leaks.model import Handle, Site

PLACES: Final = 5
"""Sites that a sentence names; the rest is summed up."""
LOOK: Final = 10_000
"""Handles looked at for one sentence."""
_logger = logging.getLogger("crawlo_otel_leaks")


@dataclass(frozen=True)
class Holders:
    """All handles that one site holds of something, as of one moment. `oldest` is seconds."""

    count: int
    oldest: float
    where: str
    finished: bool
    span: SpanContext | None

    def __str__(self) -> str:
        state = " (owner finished)" if self.finished else ""
        return f"{self.count} since up to {self.oldest:.0f} s by {self.where}{state}"


@dataclass(frozen=True)
class Exhaustion:
    """Somebody wanted one more, waited `waited` seconds, and got none, or got it late."""

    what: str
    kind: str
    name: str
    held: int
    limit: int | None
    waited: float
    holders: tuple[Holders, ...]
    waiter: SpanContext | None = None

    def __str__(self) -> str:
        of = f"{self.held} of {self.limit}" if self.limit is not None else str(self.held)
        named = [str(holders) for holders in self.holders[:PLACES]]
        rest = sum(holders.count for holders in self.holders[PLACES:])
        trace = next((f", oldest in trace {h.span.trace_id:032x}" for h in self.holders if h.span), "")
        return f"{of} {self.what} held: {', '.join([*named, *([f'{rest} elsewhere'] if rest else [])])}{trace}"


def holders(handles: Iterable[Handle], now: float) -> tuple[Holders, ...]:
    """Group handles by the line that acquired them, the largest group first."""
    by_site: dict[Site, list[Handle]] = {}
    for _, handle in zip(range(LOOK), handles, strict=False):
        by_site.setdefault(handle.site, []).append(handle)
    groups = sorted(by_site.values(), key=len, reverse=True)
    return tuple(_group(group, now) for group in groups)


def _group(group: list[Handle], now: float) -> Holders:
    oldest = min(group, key=lambda handle: handle.acquired_at)
    frame = sites.place(oldest.site)
    context = oldest.span.get_span_context() if oldest.span else None
    return Holders(
        count=len(group),
        oldest=now - oldest.acquired_at,
        where=f"{sites.portable(frame.file)}:{frame.line} {frame.function.rpartition('.')[2]}",
        finished=owner.finished(oldest, {}),
        span=context,
    )


def tell(exhaustion: Exhaustion, span: Span) -> None:
    """Write it on the waiter's span, with links to the holders' spans."""
    span.add_event(semconv.POOL_EXHAUSTED, attributes(exhaustion))
    for one in exhaustion.holders[:PLACES]:
        if one.span is not None:
            span.add_link(one.span, {semconv.HANDLE_KIND: exhaustion.kind})


def attributes(exhaustion: Exhaustion) -> dict[str, str | int | float | tuple[str, ...]]:
    """Return the event's attributes."""
    known: dict[str, str | int | float | tuple[str, ...]] = {
        semconv.HANDLE_KIND: exhaustion.kind,
        semconv.POOL_NAME: exhaustion.name,
        semconv.POOL_HELD: exhaustion.held,
        semconv.POOL_WAITED: exhaustion.waited,
        semconv.POOL_HOLDERS: tuple(str(one) for one in exhaustion.holders[:PLACES]),
    }
    if exhaustion.limit is not None:
        known[semconv.POOL_LIMIT] = exhaustion.limit
    return known


def note(error: BaseException, exhaustion: Exhaustion) -> None:
    """Add the sentence to an exception; on Python 3.10, which prints no notes, log it too."""
    text = str(exhaustion)
    if hasattr(error, "add_note"):
        error.add_note(text)
        return
    error.__notes__ = [*getattr(error, "__notes__", []), text]  # type: ignore[attr-defined]  # PEP 678's name
    _logger.warning("crawlo_otel_leaks: %s", text)

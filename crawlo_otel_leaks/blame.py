"""Who holds what somebody waits for in vain: the sentence for an exception, a span and the log."""

from __future__ import annotations

import errno
import logging
import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN

from crawlo_otel_leaks import owner, semconv, sites
from crawlo_otel_leaks.kinship import descriptors
from crawlo_otel_leaks.model import Handle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.trace import Span, SpanContext

    from crawlo_otel_leaks.model import Site
    from crawlo_otel_leaks.pool import Pool
    from crawlo_otel_leaks.tracker import Tracker

DESCRIPTORS: Final = (semconv.FILE, semconv.SOCKET, semconv.HTTP_CONNECTION, semconv.REDIS_CONNECTION)
"""Kinds that have a descriptor each."""
PLACES: Final = 5
"""Sites that a sentence names; the rest is summed up."""
LOOK: Final = 10_000
"""Handles looked at for one sentence."""
CAUSES: Final = 5
"""Exceptions looked at below the one that a library raises."""
_NO_DESCRIPTOR: Final = {number: os.strerror(number) for number in (errno.EMFILE, errno.ENFILE)}
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
    waiter: SpanContext

    def __str__(self) -> str:
        of = f"{self.held} of {self.limit}" if self.limit is not None else str(self.held)
        return (
            f"{of} {self.what} held: {', '.join(self.places)}{self._trace}" if self.held else f"{of} {self.what} held"
        )

    @property
    def places(self) -> tuple[str, ...]:
        """Who holds, the largest group first, the smallest ones summed up."""
        named = tuple(str(one) for one in self.holders[:PLACES])
        rest = sum(one.count for one in self.holders[PLACES:])
        return (*named, f"{rest} elsewhere") if rest else named

    @property
    def _trace(self) -> str:
        spans = [one.span for one in self.holders if one.span is not None]
        return f"; trace {spans[0].trace_id:032x}" if spans else ""

    def attributes(self) -> dict[str, str | int | float | tuple[str, ...]]:
        """Return what the event says."""
        known: dict[str, str | int | float | tuple[str, ...] | None] = {
            semconv.HANDLE_KIND: self.kind,
            semconv.POOL_NAME: self.name,
            semconv.POOL_HELD: self.held,
            semconv.POOL_LIMIT: self.limit,
            semconv.POOL_WAITED: self.waited,
            semconv.POOL_HOLDERS: self.places,
        }
        return {key: value for key, value in known.items() if value is not None}


def of_pool(pool: Pool, held: Sequence[Handle], waiting: Handle, now: float) -> Exhaustion:
    """Return who holds a pool's connections now, to somebody who waits for one."""
    limits = pool.read()
    return Exhaustion(
        what=f"connections of pool {pool.name}",
        kind=pool.kind,
        name=pool.name,
        held=len(held),
        limit=limits.max if limits else None,
        waited=now - waiting.acquired_at,
        holders=holders(held, now),
        waiter=(waiting.span or INVALID_SPAN).get_span_context(),
    )


def of_descriptors(tracker: Tracker, span: Span) -> Exhaustion:
    """Return who holds what needs a descriptor, to somebody whom the kernel gives no more."""
    held = _holding_descriptors(tracker)
    return Exhaustion(
        what="descriptors, as far as they are watched,",
        kind=semconv.FILE,
        name="descriptors",
        held=len(held),
        limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        waited=0.0,
        holders=holders(held, tracker.clock()),
        waiter=span.get_span_context(),
    )


def _holding_descriptors(tracker: Tracker) -> list[Handle]:
    """Return a handle for each descriptor, and one for each that the program tracks itself and cannot say."""
    by_number: dict[int, Handle] = {}
    for count, handle in enumerate(tracker.held(), start=1):
        numbers = descriptors(tracker, handle)
        if handle.kind in DESCRIPTORS and type(handle).descriptors is Handle.descriptors:
            numbers = (-count,)
        for number in numbers:
            if number not in by_number or not handle.elementary:  # a connection answers for its socket
                by_number[number] = handle
    return list(by_number.values())


def explain(tracker: Tracker, error: BaseException) -> None:
    """Tell who holds the descriptors, if it is for them that the error was raised, and nobody has told yet."""
    if out_of_descriptors(error):
        span = trace.get_current_span()
        found = of_descriptors(tracker, span)
        if note(error, found):
            tell(tracker, found, span)


def out_of_descriptors(error: BaseException) -> bool:
    """Whether the process (or the machine) had no descriptor left; libraries wrap what the kernel said."""
    step: BaseException | None = error
    for _ in range(CAUSES):
        if step is None:
            return False
        if getattr(step, "errno", None) in _NO_DESCRIPTOR or any(text in str(step) for text in _NO_DESCRIPTOR.values()):
            return True
        step = step.__cause__ or step.__context__
    return False


def holders(handles: Iterable[Handle], now: float) -> tuple[Holders, ...]:
    """Group handles by the line that acquired them, the largest group first."""
    by_site: dict[Site, list[Handle]] = {}
    for _, handle in zip(range(LOOK), handles, strict=False):
        by_site.setdefault(handle.site, []).append(handle)
    return tuple(_group(group, now) for group in sorted(by_site.values(), key=len, reverse=True))


def _group(group: list[Handle], now: float) -> Holders:
    oldest = min(group, key=lambda handle: handle.acquired_at)
    frame = sites.place(oldest.site)
    return Holders(
        count=len(group),
        oldest=now - oldest.acquired_at,
        where=f"{sites.portable(frame.file)}:{frame.line} {frame.function.rpartition('.')[2]}",
        finished=owner.finished(oldest, {}),
        span=oldest.span.get_span_context() if oldest.span else None,
    )


def tell(tracker: Tracker, exhaustion: Exhaustion, span: Span | None) -> None:
    """Write it on the waiter's span, with links to the holders' spans, and queue it for the log."""
    tracker.exhausted.append(exhaustion)
    span = span or INVALID_SPAN
    span.add_event(semconv.POOL_EXHAUSTED, exhaustion.attributes())
    for one in exhaustion.holders[:PLACES]:
        if one.span is not None:
            span.add_link(one.span, {semconv.HANDLE_KIND: exhaustion.kind})


def note(error: BaseException, exhaustion: Exhaustion) -> bool:
    """Add the sentence to an exception; Python 3.10 prints no notes, so log it there. False if it had one already."""
    text, notes = str(exhaustion), getattr(error, "__notes__", [])
    if any(exhaustion.what in one for one in notes):
        return False
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:
        setattr(error, "__notes__", [*notes, text])  # noqa: B010  (PEP 678's name, which 3.10 has no type for)
        _logger.warning("crawlo_otel_leaks: %s", text)
    return True

"""Spider runs: what each was, what it left behind, and when its verdict is due."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import process, semconv
from crawlo_otel_leaks.model import Reason, Scope
from crawlo_otel_leaks.owner import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.trace import Span

    from crawlo_otel_leaks.findings import Findings
    from crawlo_otel_leaks.model import Finding, Handle, Leak
    from crawlo_otel_leaks.process import ProcessSnapshot
    from crawlo_otel_leaks.tracker import Tracker

    Left = Counter[tuple[str, str]]
    """How many leaks of each kind and fingerprint."""

KEPT: Final = 500
"""Runs that are kept; of more, the oldest that has ended and is not known to have leaked goes first."""
RUNNING: Final = "running"
FINISHED: Final = "finished"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
HEALTHY: Final = "healthy"
LEAKY: Final = "leak_detected"
UNKNOWN: Final = "insufficient_data"
"""The run, or its grace, is not over."""
MANY: Final = 20_000
"""More handles are not counted on the thread of an event loop."""


class Footprint(NamedTuple):
    """The process in brief; None is what cannot be known here."""

    rss: int | None = None
    """Bytes."""
    fds: int | None = None
    threads: int | None = None
    tasks: int | None = None


def footprint() -> Footprint:
    """Look at the process, for less than 0.2 ms: a run begins and ends on the thread of its event loop."""
    with suppress_instrumentation():
        seen = process.snapshot(None)
    return Footprint(seen.rss, seen.fds, seen.threads, seen.tasks)


def _most(one: int | None, other: int | None) -> int | None:
    return max(one or 0, other or 0) or None


@dataclass(eq=False)
class Run:
    """One crawl of one spider. Times are monotonic seconds, but for `wall`, which are seconds since 1970."""

    spider: str
    run_id: str
    scope: Scope
    started_at: float
    wall: float
    before: Footprint
    after: Footprint | None = None
    peak: int | None = None
    """Most resident bytes that a snapshot showed while it ran."""
    ended_at: float | None = None
    outcome: str = RUNNING
    error: str | None = None
    """Type of the exception that ended it."""
    pages: int | None = None
    counter: Callable[[], int | None] | None = None
    """Tells its pages while it runs."""
    span: Span | None = None
    held: int | None = None
    """Handles that it had not given back at its end, before any grace; None where there were too many to count."""
    lost: Left = field(default_factory=Counter)
    """What was abandoned in it."""
    judged: str = UNKNOWN
    again: bool = False
    """Whether it had been judged before."""
    left: Left = field(default_factory=Counter)
    """The leaks that were known when it was judged."""

    @property
    def duration(self) -> float | None:
        """Seconds; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at

    def count_pages(self) -> None:
        """Bring `pages` up to date."""
        counted = self.counter() if self.counter else None
        self.pages = self.pages if counted is None else counted


class Telling(Protocol):
    """Who tells of runs: the emitter, which is not imported from here."""

    def begin(self, run: Run) -> Span:
        """Start its span."""

    def end(self, run: Run) -> None:
        """End its span."""

    def judged(self, run: Run) -> None:
        """Tell its verdict."""


class Runs:
    """The runs of this process, the newest last; a sink, for what is abandoned in one is told only once.

    Runs begin and end on any thread; only the detector's thread, or the end of the process, judges them.
    """

    def __init__(self, tracker: Tracker, grace: float, telling: Telling) -> None:
        self._tracker, self._grace, self._telling = tracker, grace, telling
        self.clear()

    def clear(self) -> None:
        """Forget all, in a forked child."""
        self.kept: deque[Run] = deque()
        self.left_out = 0
        self._by_scope: dict[Scope, Run] = {}
        self._pending: dict[Run, None] = {}
        self.dropped: deque[Run] = deque()
        """Those whose coroutine was closed by the collector; to be ended elsewhere than in its finalizer."""

    def begin(self, spider: str) -> Run:
        """Begin a run: its span, its scope, and what the process is like before it."""
        run_id = uuid.uuid4().hex
        facts = {"spider": spider, "run_id": run_id}
        scope = Scope(f"spider {spider}", current_scope.get(), facts, thorough=True)
        run = Run(spider, run_id, scope, self._tracker.clock(), time.time(), footprint())
        run.peak = run.before.rss
        self._by_scope[scope] = run
        self.kept.append(run)
        if len(self.kept) > KEPT:
            spare = (one for one in list(self.kept) if one.ended_at is not None and one.judged != LEAKY)
            self._drop(next(spare, self.kept[0]))
        run.span = self._telling.begin(run)
        return run

    def _drop(self, run: Run) -> None:
        self.kept.remove(run)
        self._by_scope.pop(run.scope, None)
        self._pending.pop(run, None)
        self.left_out += 1

    def end(self, run: Run, outcome: str, error: str | None = None) -> None:
        """End a run, its scope and its span: the verdict is due after the grace."""
        tracker = self._tracker
        run.outcome, run.error = outcome, error
        if sum(map(tracker.count, semconv.KINDS)) <= MANY:
            run.held = sum(self._holder(handle) is run for handle in tracker.held())
        run.after, run.counter = footprint(), None
        run.peak = _most(run.peak, run.after.rss)
        run.ended_at = run.scope.ended_at = tracker.clock()
        tracker.ended_scopes.append(run.scope)
        self._pending[run] = None
        self._telling.end(run)

    def of(self, scope: Scope | None) -> Run | None:
        """Return the run that a scope is, or is within."""
        while scope is not None and scope not in self._by_scope:
            scope = scope.parent
        return None if scope is None else self._by_scope.get(scope)

    def active(self) -> Iterator[Run]:
        """Yield those that have not ended."""
        yield from (run for run in list(self.kept) if run.ended_at is None)

    def _observe(self, seen: ProcessSnapshot | None) -> None:
        """Take the newest snapshot into account for those that were active then."""
        for run in self.active():
            if seen is not None and seen.wall >= run.wall:
                run.peak = _most(run.peak, seen.rss)

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Count what was abandoned; any leak of a run that was judged before has it judged again."""
        del finding
        run = self.of(leak.handle.scope) if leak.reason.is_leak else None
        if run is None:
            return
        if leak.reason is Reason.ABANDONED:
            run.lost[leak.kind, leak.fingerprint] += 1
        if run.ended_at is not None:
            self._pending[run] = None

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Nothing: what is open is counted when somebody asks."""

    def released(self, handles: Sequence[Handle]) -> None:
        """Nothing: what was given back is no leak."""

    def judge(self, findings: Findings, seen: ProcessSnapshot | None, now: float, *, last: bool = False) -> None:
        """Tell the verdicts that are due by `now`; all that are left, if it is the last time."""
        while self.dropped:
            self.end(self.dropped.popleft(), CANCELLED)
        self._observe(seen)
        for run in self._due(findings, now, last=last):
            self._telling.judged(run)

    def _due(self, findings: Findings, now: float, *, last: bool) -> list[Run]:
        ended = [run for run in list(self._pending) if last or now >= (run.ended_at or now) + self._grace]
        leaks = self.leaks(findings) if ended else {}
        changed = []
        for run in ended:
            self._pending.pop(run, None)
            verdict = LEAKY if leaks[run] else HEALTHY
            if verdict != run.judged:
                run.again, run.judged, run.left = run.judged != UNKNOWN, verdict, leaks[run]
                changed.append(run)
        return changed

    def leaks(self, findings: Findings) -> dict[Run, Left]:
        """Return the leaks of every run that are not resolved."""
        leaks = {run: Counter(run.lost) for run in list(self.kept)}
        for finding in list(findings.by_key.values()):
            # Of what was abandoned a finding keeps one alone: the runs count those themselves.
            counts = finding.reason.is_leak and finding.reason is not Reason.ABANDONED
            for leak in list(finding.open_leaks) if counts else ():
                run = self.of(leak.handle.scope)
                if run in leaks:
                    leaks[run][leak.kind, leak.fingerprint] += 1
        return leaks

    def open(self, handles: Iterable[Handle]) -> dict[Run, Counter[str]]:
        """Return how many handles of each kind every run holds; what belongs to the process does not count."""
        held: dict[Run, Counter[str]] = {run: Counter() for run in list(self.kept)}
        for handle in handles:
            run = self._holder(handle)
            if run in held:
                held[run][handle.kind] += 1
        return held

    def _holder(self, handle: Handle) -> Run | None:
        """Return the run that has to give a handle back; what is part of another is given back with that."""
        return None if handle.process or handle.part_of else self.of(handle.scope)

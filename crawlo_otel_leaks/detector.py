"""tick(now): pass what is due through the rules, open and resolve leaks, tell the sinks."""

from __future__ import annotations

import fnmatch
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from crawlo_otel_leaks import holds, owner, rules, sites
from crawlo_otel_leaks.agenda import Agenda
from crawlo_otel_leaks.findings import Findings
from crawlo_otel_leaks.kinship import Kinship
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.watch import Watch

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from crawlo_otel_leaks.agenda import Turn
    from crawlo_otel_leaks.findings import Sink
    from crawlo_otel_leaks.model import Handle, Site
    from crawlo_otel_leaks.rules import Facts
    from crawlo_otel_leaks.settings import Settings
    from crawlo_otel_leaks.tracker import Tracker

T = TypeVar("T")
BUDGET: Final = 20_000
"""Handles promoted or looked at in one tick; the rest waits for the next."""


class Detector:
    """Judges handles. One thread calls `tick`; time comes from the tracker's clock."""

    def __init__(self, tracker: Tracker, settings: Settings, sinks: Sequence[Sink] = ()) -> None:
        self.tracker = tracker
        self.settings = settings
        self.sinks = list(sinks)
        self.findings = Findings()
        self._kin = Kinship(tracker)
        self._agenda = Agenda()
        self._watches: dict[Handle, Watch] = {}
        """What is known of old handles. One that is as it was when it was acquired has none, but its turn alone."""
        self._open: dict[Handle, Watch] = {}
        self._crowds: dict[Site, set[Handle]] = {}
        """Those of a site that are past their threshold, unmoved, and whose use cannot be seen."""

    def tick(self, now: float | None = None) -> None:
        """Bring the verdicts up to date. `now` is in monotonic seconds."""
        now = self.tracker.clock() if now is None else now
        self.note()
        self._kin.begin()
        self._take_abandoned(now)
        self._take_ended_scopes(now)
        self._promote(now)
        self._look_at_due(now)
        self._resolve_released(now)
        self._tell_released()

    def note(self) -> None:
        """Have instrumentors note what they note now and then."""
        for chore in self.tracker.chores:
            chore()

    def finish(self, *, exiting: bool) -> None:
        """Judge whatever is left, without further grace; `exiting` also accuses what nobody will release."""
        now = self.tracker.clock()
        self.tick(now)
        frames = owner.current_frames()
        for handle in self.tracker.held():
            watch = self._known(handle)
            part = self._kin.holder(handle) is not None
            facts = watch.look(now, 0.0, frames, exiting=exiting, part=part)
            self._apply(watch, self._judge(watch, facts), now)
        self._tell_released()

    def verdict(self, handle: Handle) -> Reason | None:
        """Return what a handle is accused of now."""
        watch = self._open.get(handle)
        return watch.leak.reason if watch is not None and watch.leak is not None else None

    def _take_abandoned(self, now: float) -> None:
        handles = list(_drain(self.tracker.abandoned))
        self._kin.lose(handles)
        for handle in handles:
            watch = self._open.get(handle) or Watch(handle, 0.0)  # no module can name it any more
            if not self.ignored(handle) and not self._kin.answered(handle):
                self._apply(watch, Reason.ABANDONED, now)
            self._open.pop(handle, None)
            self._leave_crowd(handle)

    def _take_ended_scopes(self, now: float) -> None:
        """Look at everything that an ended scope holds now, rather than when it is due."""
        ended = set(_drain(self.tracker.ended_scopes))
        for handle in self.tracker.held() if ended else ():
            if handle.scope in ended:
                watch = self._known(handle)
                watch.brought_forward = True
                self._plan(watch, max(now, (handle.scope.ended_at or now) + self.settings.grace))

    def _promote(self, now: float) -> None:
        """Move handles that outlived a scan interval from young to old, oldest first."""
        patience = min(self.settings.scan_interval, self.settings.grace)
        for shelf in self.tracker.young.values():
            for handle in _oldest(shelf):
                if now - handle.acquired_at < patience:
                    break
                if handle.released_at is None:
                    self._plan(self._known(handle), now)

    def _known(self, handle: Handle) -> Watch:
        """Return what is known of a handle; of an old one that has no watch, that it is as it was."""
        watch = self._watches.get(handle)
        if watch is None:
            seen = handle in self.tracker.old[handle.kind]
            if not seen:
                owner.adopt_global(handle)
            watch = Watch(handle, self._threshold(handle), seen=seen)
        return watch

    def _plan(self, watch: Watch, due: float) -> None:
        """Have a handle looked at when `due` says, and no more when an earlier call said."""
        watch.turn = self._agenda.add(watch.handle, due, watch.threshold, seen=watch.seen)
        if watch.blank:
            self._watches.pop(watch.handle, None)
        else:
            self._watches[watch.handle] = watch
        self._keep(watch.handle)

    def _keep(self, handle: Handle) -> None:
        old = self.tracker.old[handle.kind]
        self.tracker.young[handle.kind].pop(handle, None)  # first: it lies on one shelf
        old[handle] = None
        if handle.released_at is not None:  # by another thread between the two lines above, or just before
            old.pop(handle, None)

    def _look_at_due(self, now: float) -> None:
        frames = owner.current_frames() if self._agenda.open(now) else {}
        for _ in range(BUDGET):
            fallen_due = self._agenda.take(now)
            if fallen_due is None:
                break
            handle, turn = fallen_due
            if handle.released_at is not None:
                self._forget(handle)
                continue
            watch = self._watches.get(handle) or self._blank(handle, turn)
            if watch.turn is turn:  # else it was brought forward
                self._look_at(watch, now, frames)

    @staticmethod
    def _blank(handle: Handle, turn: Turn) -> Watch:
        watch = Watch(handle, turn.threshold, seen=turn.seen)
        watch.turn = turn
        return watch

    def _look_at(self, watch: Watch, now: float, frames: Mapping[int, FrameType]) -> None:
        try:
            part = self._kin.holder(watch.handle) is not None
            facts = self._facts(watch, watch.look(now, self.settings.grace, frames, part=part))
            self._apply(watch, self._judge(watch, facts), now)
            self._plan(watch, watch.next_look(now, self.settings.scan_interval, self.settings.grace))
        except Exception as error:  # noqa: BLE001  (one that cannot be looked at must not hide the others)
            self.tracker.fail(type(watch.handle).__name__, error)
            self._give_up(watch.handle)

    def _facts(self, watch: Watch, facts: Facts) -> Facts:
        """Add how many handles of the same site are stuck alike."""
        site = watch.handle.site
        if facts.crowd:
            self._crowds.setdefault(site, set()).add(watch.handle)
        else:
            self._leave_crowd(watch.handle)
        crowd = len(self._crowds.get(site, ())) if facts.idle is None else facts.crowd
        return facts if crowd == facts.crowd else facts._replace(crowd=crowd)

    def _judge(self, watch: Watch, facts: Facts) -> Reason | None:
        return None if self.ignored(watch.handle) else rules.judge(facts)

    def _apply(self, watch: Watch, reason: Reason | None, now: float) -> None:
        """Bring the watch's leak in line with the newest verdict; weaker ones never replace stronger ones."""
        leak = watch.leak
        if reason is None or (reason is Reason.SLOW and leak is not None):
            if leak is not None and leak.reason.is_leak:
                self._resolve(watch, now)
        elif leak is None and watch.former is not None and watch.former.reason is reason:
            self.findings.reopen(watch.former)
            self._open[watch.handle] = watch
        elif leak is None:
            opened, finding = self.findings.open(watch.handle, reason, now, self._kin.parts(watch.handle))
            watch.accuse(opened)
            self._open[watch.handle] = watch
            self._tell(lambda sink: sink.opened(opened, finding))
        elif reason.strength < leak.reason.strength:
            finding = self.findings.strengthen(leak, reason, now)
            self._tell(lambda sink: sink.opened(leak, finding))

    def _resolve_released(self, now: float) -> None:
        for watch in [watch for watch in self._open.values() if watch.handle.released_at is not None]:
            self._resolve(watch, watch.handle.released_at or now)
            self._leave_crowd(watch.handle)

    def _resolve(self, watch: Watch, at: float) -> None:
        leak = watch.leak
        self._open.pop(watch.handle, None)
        if leak is not None:
            finding = self.findings.resolve(leak, at)
            self._tell(lambda sink: sink.resolved(leak, finding))

    def _leave_crowd(self, handle: Handle) -> None:
        crowd = self._crowds.get(handle.site)
        if crowd is not None:
            crowd.discard(handle)
            if not crowd:
                del self._crowds[handle.site]

    def _give_up(self, handle: Handle) -> None:
        """Look at it no more."""
        self._forget(handle)
        self._keep(handle)

    def _forget(self, handle: Handle) -> None:
        """Let go of what is known of it."""
        self._leave_crowd(handle)
        self._watches.pop(handle, None)

    def _tell_released(self) -> None:
        handles = list(_drain(self.tracker.released))
        for handle in handles:
            _learn(handle)
        if handles:
            self._tell(lambda sink: sink.released(handles))

    def _tell(self, what: Callable[[Sink], None]) -> None:
        for sink in self.sinks:
            try:
                what(sink)
            except Exception as error:  # noqa: BLE001  (a broken exporter must not stop the others)
                self.tracker.fail(type(sink).__name__, error)

    def _threshold(self, handle: Handle) -> float:
        of_kind = self.settings.thresholds.get(handle.kind)
        return holds.threshold(handle.site.holds, of_kind, self.settings.grace)

    def ignored(self, handle: Handle) -> bool:
        """Whether the settings leave it out."""
        patterns = self.settings.ignore
        if not patterns:
            return False
        frame = sites.place(handle.site)
        place = f"{sites.portable(frame.file)}:{frame.line} {frame.function}"
        names = (handle.kind, place, frame.file, frame.function)
        return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)


def _learn(handle: Handle) -> None:
    """Add a released handle to the history of its site."""
    if handle.site.holds is None:
        handle.site.holds = holds.Holds()
    handle.site.holds.add(handle.held)


def _drain(queue: deque[T]) -> Iterator[T]:
    """Take what is in the queue now; what comes in meanwhile waits, so that this ends."""
    for _ in range(len(queue)):
        try:
            yield queue.popleft()
        except IndexError:  # pragma: no cover  (another drain won; two never run in one process)
            return


def _oldest(shelf: dict[Handle, None]) -> list[Handle]:
    """Return the front of a shelf, as far as a tick may come."""
    while True:
        try:
            return list(islice(shelf, BUDGET))
        except RuntimeError:  # a finalizer, or another thread, took something off meanwhile
            continue

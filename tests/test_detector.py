from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from conftest import GRACE, SCAN, Recorder, Rig
from detector_steps import Fake, take

from crawlo_otel_leaks import findings, watch
from crawlo_otel_leaks.detector import Detector
from crawlo_otel_leaks.model import Reason, Scope
from crawlo_otel_leaks.owner import current_scope
from crawlo_otel_leaks.settings import Settings


def test_a_handle_that_is_released_is_never_seen(rig):
    for _ in range(100):
        rig.runtime.tracker.release(take(rig))
    rig.settle()
    assert rig.verdicts == []
    assert len(rig.recorder.released_handles) == 100


def test_an_idle_file_is_held_too_long_after_its_threshold(rig):
    handle = take(rig)
    rig.pass_time(299, steps=299)
    assert rig.verdicts == []
    rig.pass_time(20, steps=20)
    assert rig.verdicts == [("file", "held_too_long")]
    rig.runtime.tracker.release(handle)


def test_one_that_was_used_is_idle_only_since(rig):
    handle = take(rig)
    rig.pass_time(200, steps=200)
    handle.token = 7
    rig.pass_time(299, steps=299)
    assert rig.verdicts == []
    rig.pass_time(70, steps=70)
    assert rig.verdicts == [("file", "held_too_long")]


def test_one_in_use_is_slow_and_no_leak(rig):
    handle = take(rig)
    for _ in range(40):
        handle.token += 1
        rig.pass_time(20, steps=2)
    assert rig.verdicts == [("file", "slow")]
    assert rig.runtime.report().status == "healthy"
    rig.runtime.tracker.release(handle)
    rig.settle()
    assert [entry.reason for entry in rig.runtime.report().leaks] == ["slow"]


def test_one_that_is_waited_on_is_in_use(rig):
    handle = take(rig)
    handle.waiting = True
    rig.pass_time(400, steps=40)
    assert rig.verdicts == [("file", "slow")]


def test_an_accused_handle_that_is_used_again_is_resolved(rig):
    handle = take(rig)
    rig.pass_time(400, steps=40)
    handle.token += 1
    rig.pass_time(61)
    assert [leak.reason for leak in rig.recorder.resolved_leaks] == [Reason.HELD_TOO_LONG]
    assert rig.runtime.report().status == "healthy"


def test_an_accused_handle_that_is_released_is_resolved(rig):
    handle = take(rig)
    rig.pass_time(400, steps=40)
    rig.runtime.tracker.release(handle)
    rig.pass_time(1)
    (leak,) = rig.recorder.resolved_leaks
    assert leak.held == pytest.approx(400)
    (entry,) = rig.runtime.report().leaks
    assert (entry.resolved, entry.count) == (True, 1)


def test_what_cannot_be_seen_is_accused_in_a_crowd_only(rig):
    handles = []
    for expected in (4, 5):
        while len(handles) < expected:
            handles.append(take(rig))
            handles[-1].visible = False
        if expected == 4:
            rig.pass_time(500, steps=50)
            assert rig.verdicts == []
    rig.pass_time(500, steps=50)
    assert set(rig.verdicts) == {("file", "held_too_long")}
    assert len(rig.verdicts) == 5
    for handle in handles:
        rig.runtime.tracker.release(handle)
    rig.settle()
    assert rig.runtime.report().status == "healthy"
    assert not rig.runtime.detector._crowds


def test_the_loop_that_closes_leaves_a_leak_after_the_grace(rig):
    handle = take(rig)
    rig.pass_time(2, steps=2)
    handle.closed = True
    rig.pass_time(GRACE - 1, steps=9)
    assert rig.verdicts == []
    rig.pass_time(5, steps=5)
    assert rig.verdicts == [("file", "loop_closed")]


def test_each_fingerprint_is_one_finding_whose_count_grows(rig):
    kept = [take(rig) for _ in range(3)]
    rig.pass_time(400, steps=40)
    (entry,) = rig.runtime.report().leaks
    assert (entry.count, entry.reason, entry.held_s) == (3, "held_too_long", pytest.approx(400))
    for handle in kept[:2]:
        rig.runtime.tracker.release(handle)
    rig.pass_time(1)
    (entry,) = rig.runtime.report().leaks
    assert (entry.count, entry.resolved) == (3, False)


def test_a_stronger_verdict_replaces_a_weaker_one_and_never_the_reverse(rig):
    handle = take(rig)
    rig.pass_time(400, steps=40)
    rig.runtime.tracker.abandon(handle)
    rig.pass_time(1)
    weak, strong = rig.recorder.opened_leaks
    assert weak is strong
    assert strong.reason is Reason.ABANDONED
    (entry,) = rig.runtime.report().leaks
    assert (entry.reason, entry.count, entry.resolved) == ("abandoned", 1, False)


def test_a_scope_accuses_what_it_holds_but_not_what_is_adopted(rig):
    scope = Scope("job")
    token = current_scope.set(scope)
    mine, shared = take(rig), take(rig)
    current_scope.reset(token)
    shared.process = True
    rig.runtime.end_scope(scope)
    rig.settle()
    assert rig.verdicts == [("file", "scope_end")]
    assert rig.recorder.opened_leaks[0].owner.scope == "job"
    rig.runtime.tracker.release(mine)
    rig.runtime.tracker.release(shared)


def test_finish_accuses_what_nobody_will_release(rig):
    take(rig)
    rig.runtime.finish(exiting=True)
    assert rig.verdicts == [("file", "process_exit")]
    rig.runtime.finish(exiting=True)
    assert len(rig.verdicts) == 1, "finishing twice accuses once"


def test_finish_without_exit_accuses_nobody_at_work(rig):
    take(rig)
    rig.runtime.finish(exiting=False)
    assert rig.verdicts == []


def test_after_the_finish_nothing_is_tracked(rig):
    rig.runtime.finish(exiting=True)
    assert take(rig) is None


def test_a_broken_sink_stops_no_other(rig):
    class Broken(Recorder):
        def opened(self, leak, finding):
            raise RuntimeError("exporter down")

    rig.runtime.detector.sinks.insert(0, Broken())
    take(rig)
    rig.runtime.finish(exiting=True)
    assert rig.verdicts == [("file", "process_exit")]
    assert rig.runtime.tracker.errors == 1
    rig.runtime.tracker.errors = 0


def test_more_findings_than_the_limit_are_counted(rig, monkeypatch):
    monkeypatch.setattr(findings, "LIMIT", 1)
    first, second = take(rig), rig.runtime.tracker.acquire(Fake(), sys._getframe())
    rig.runtime.finish(exiting=True)
    assert len(rig.runtime.report().leaks) == 1
    assert rig.runtime.detector.findings.overflow == 1
    assert first.site is not second.site


def test_a_handle_released_while_it_is_promoted_leaves_nothing(rig):
    handle = take(rig)
    rig.clock.advance(2 * SCAN)
    rig.runtime.tracker.young["file"].pop(handle)  # as the detector does, just before ...
    rig.runtime.tracker.release(handle)  # ... another thread releases
    rig.runtime.detector._plan(rig.runtime.detector._known(handle), rig.clock())
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []
    assert rig.runtime.tracker.count("file") == 0


def test_old_handles_are_looked_at_ever_more_rarely(rig):
    handle = take(rig, Fake("thread"))  # a kind without a threshold
    looks = []
    handle_progress = Fake.progress
    Fake.progress = lambda self: looks.append(rig.clock()) or handle_progress(self)
    try:
        rig.pass_time(3600, steps=3600)
    finally:
        Fake.progress = handle_progress
    assert len(looks) < 150
    gaps = [after - before for before, after in pairwise(looks)]
    assert max(gaps) <= watch.LONGEST + SCAN
    rig.runtime.tracker.release(handle)


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [("file", True), ("*detector_steps.py*", True), ("take", True), ("socket", False), ("*/vendor/*", False)],
)
def test_what_is_ignored_by_kind_or_site_is_never_accused(pattern, ignored):
    rig = Rig(Settings(grace=GRACE, scan_interval=SCAN, ignore=("nothing", pattern)))
    take(rig)
    rig.runtime.tracker.abandon(take(rig))
    rig.runtime.finish(exiting=True)
    assert bool(rig.verdicts) is not ignored


def test_one_tick_has_a_budget(rig, monkeypatch):
    monkeypatch.setattr("crawlo_otel_leaks.detector.BUDGET", 10)
    handles = [take(rig) for _ in range(25)]
    rig.pass_time(2)
    assert len(rig.runtime.tracker.old["file"]) == 10
    rig.pass_time(2)
    assert len(rig.runtime.tracker.old["file"]) == 20
    for handle in handles:
        rig.runtime.tracker.release(handle)


def test_one_that_cannot_be_looked_at_hides_no_other(rig):
    class Broken(Fake):
        __slots__ = ()

        def progress(self):
            raise RuntimeError("another release of the library")

    handles = [take(rig, Broken()), take(rig)]
    rig.pass_time(400, steps=40)
    assert rig.verdicts == [("file", "held_too_long")]
    assert rig.runtime.tracker.errors == 1
    rig.runtime.tracker.errors = 0
    for handle in handles:
        rig.runtime.tracker.release(handle)


def test_a_detector_of_its_own_needs_no_sinks(rig):
    detector = Detector(rig.runtime.tracker, Settings())
    rig.runtime.tracker.abandon(take(rig))
    detector.tick()
    assert [finding.count for finding in detector.findings.by_key.values()] == [1]


def test_one_that_is_accused_again_after_use_is_counted_once(rig):
    handle = take(rig)
    rig.pass_time(400, steps=40)
    handle.token += 1
    rig.pass_time(61)
    rig.pass_time(500, steps=50)
    assert len(rig.recorder.opened_leaks) == 1
    (entry,) = rig.runtime.report().leaks
    assert (entry.count, entry.resolved) == (1, False)


def test_the_finding_left_behind_is_shown_by_one_that_is_still_in_it(rig):
    first, second = (take(rig) for _ in range(2))
    rig.pass_time(400, steps=40)
    rig.runtime.tracker.abandon(first)
    rig.pass_time(1)
    weaker = next(f for f in rig.runtime.detector.findings.by_key.values() if f.reason is Reason.HELD_TOO_LONG)
    assert (weaker.first.handle, weaker.count, weaker.open) == (second, 1, 1)
    assert rig.runtime.numbers.open["file"] == 1
    assert [entry.reason for entry in rig.runtime.report().leaks] == ["abandoned", "held_too_long"]


def test_many_abandoned_ones_are_counted_but_not_kept(rig):
    for _ in range(50):
        rig.runtime.tracker.abandon(take(rig))
    rig.pass_time(1)
    (finding,) = rig.runtime.detector.findings.by_key.values()
    assert (finding.count, finding.open, len(finding.open_leaks), finding.resolved) == (50, 0, 1, False)

"""Of a handle that is as it was when it was acquired, nothing is kept but when it is looked at next."""

from __future__ import annotations

import pytest
from conftest import GRACE, SCAN
from detector_steps import Fake, take

from crawlo_otel_leaks.holds import Holds
from crawlo_otel_leaks.model import Scope
from crawlo_otel_leaks.owner import current_scope
from crawlo_otel_leaks.watch import Watch


class Fresh(Fake):
    """One that tells whether it is as it was; nothing shows what `invisible` ones do."""

    __slots__ = ("looks",)
    invisible = False

    def __init__(self, kind="file"):
        super().__init__(kind)
        self.looks = 0

    def progress(self):
        self.looks += 1
        self.untouched = None if self.invisible else self.token == 0
        return super().progress()._replace(token=None) if self.invisible else super().progress()


class Unseen(Fresh):
    __slots__ = ()
    invisible = True


@pytest.fixture(params=[Fresh, Unseen])
def handle(request, rig):
    return take(rig, request.param())


def kept(rig, handle):
    assert handle in rig.runtime.tracker.old[handle.kind]
    return rig.runtime.detector._watches.get(handle)


def turns(rig, handle):
    return [turn for turn in rig.runtime.detector._agenda._turns.values() if handle in turn.handles]


def used_after(rig, seconds):
    """Take one, of which nothing is kept until it is used after so long; a minute later it is looked at again."""
    handle = take(rig, Fresh())
    rig.pass_time(seconds, steps=seconds)
    assert kept(rig, handle) is None
    handle.token = 1
    rig.pass_time(60, steps=60)
    return handle


def test_what_falls_due_together_shares_one_record(rig, handle):
    other = take(rig, type(handle)())
    rig.pass_time(20 * SCAN, steps=20)
    assert kept(rig, handle) is kept(rig, other) is None
    assert turns(rig, handle) == turns(rig, other)
    assert len(turns(rig, handle)) == 1
    assert handle.looks == other.looks > 1


def test_it_is_held_too_long_after_its_threshold_all_the_same(rig, handle):
    rig.pass_time(299, steps=299)
    assert rig.verdicts == []
    rig.pass_time(20, steps=20)
    assert rig.verdicts == [("file", "held_too_long")]
    assert isinstance(kept(rig, handle), Watch)


def test_a_look_just_when_the_threshold_has_come_is_soon_followed_by_another(rig):
    take(rig, Fresh())
    rig.pass_time(310, steps=31)
    assert rig.verdicts == [("file", "held_too_long")]


def test_one_whose_use_shows_is_idle_only_since(rig):
    handle = used_after(rig, 250)
    assert isinstance(kept(rig, handle), Watch)
    rig.pass_time(230, steps=230)
    assert rig.verdicts == []
    rig.pass_time(90, steps=90)
    assert rig.verdicts == [("file", "held_too_long")]


def test_one_that_is_slow_in_its_first_use_is_no_leak(rig):
    used_after(rig, 295)
    assert rig.verdicts == [("file", "slow")]


def test_one_that_is_back_where_it_was_has_been_used(rig):
    handle = take(rig, Fresh())
    rig.pass_time(10, steps=10)
    handle.token = 1
    rig.pass_time(10, steps=10)
    handle.token = 0
    rig.pass_time(285, steps=285)
    assert rig.verdicts == []
    rig.pass_time(60, steps=60)
    assert rig.verdicts == [("file", "held_too_long")]


def test_the_threshold_is_that_of_the_time_when_it_was_first_looked_at(rig, handle):
    rig.pass_time(4 * SCAN, steps=4)
    assert kept(rig, handle) is None
    handle.site.holds = Holds()
    handle.site.holds.brief = 1000
    rig.pass_time(250, steps=250)
    assert rig.verdicts == []


def test_one_that_a_scope_leaves_behind_is_brought_forward_and_looked_at_no_more_often(rig):
    scope = Scope("job")
    token = current_scope.set(scope)
    handles = [take(rig, Fresh()), take(rig, Fresh())]
    current_scope.reset(token)
    rig.pass_time(200, steps=200)
    before = handles[0].looks
    rig.runtime.end_scope(scope)
    rig.pass_time(GRACE + SCAN, steps=4)
    assert rig.verdicts == [("file", "scope_end")] * 2
    assert handles[0].looks - before <= 3
    before = handles[0].looks
    rig.pass_time(600, steps=600)
    assert handles[0].looks - before <= 600 / 25 + 1


def test_the_owner_that_ends_is_noted(rig, handle):
    rig.pass_time(4 * SCAN, steps=4)
    handle.closed = True
    rig.pass_time(4 * SCAN, steps=4)
    assert isinstance(kept(rig, handle), Watch)
    rig.pass_time(GRACE + 70, steps=20)
    assert rig.verdicts == [("file", "loop_closed")]


def test_one_released_during_a_look_is_not_kept(rig, handle, monkeypatch):
    rig.pass_time(4 * SCAN, steps=4)
    busy = Fake.busy
    monkeypatch.setattr(Fake, "busy", lambda self: rig.runtime.tracker.release(self) or busy(self))
    rig.pass_time(20 * SCAN, steps=20)
    assert rig.held == []
    assert rig.verdicts == []


def test_what_remains_is_judged_at_the_end_by_what_was_known_of_it(rig, handle):
    rig.pass_time(4 * SCAN, steps=4)
    assert kept(rig, handle) is None
    rig.runtime.finish(exiting=True)
    assert rig.verdicts == [("file", "process_exit")]


def test_of_what_was_released_nothing_is_kept_once_its_turn_has_come(rig):
    handle = used_after(rig, 20)
    assert isinstance(kept(rig, handle), Watch)
    rig.runtime.tracker.release(handle)
    rig.pass_time(70, steps=70)
    assert rig.runtime.detector._watches == {}

from __future__ import annotations

import pytest

from crawlo_otel_leaks import adopt, release, scope, track


class Thing:
    """Something of the user's own."""


def test_a_tracked_thing_that_is_released_is_no_leak(rig):
    thing = track(Thing(), name="lock file")
    rig.settle()
    release(thing)
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []


def test_a_tracked_thing_that_is_dropped_is_abandoned(rig):
    track(Thing(), name="lock file")
    rig.pass_time(1)
    assert rig.verdicts == [("custom", "abandoned")]
    leak = rig.recorder.opened_leaks[0]
    assert leak.name == "lock file"
    assert leak.where.function.endswith("test_a_tracked_thing_that_is_dropped_is_abandoned")
    assert leak.where.text == 'track(Thing(), name="lock file")'


def test_a_scope_that_ends_accuses_what_it_still_holds_after_the_grace(rig):
    with scope("import job"):
        kept, given_back = track(Thing()), track(Thing())
        release(given_back)
    rig.pass_time(5)
    assert rig.verdicts == []
    rig.pass_time(6)
    assert rig.verdicts == [("custom", "scope_end")]
    release(kept)
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1


def test_what_is_adopted_belongs_to_the_process(rig):
    with scope("import job"):
        kept = adopt(track(Thing()))
    rig.settle()
    assert rig.verdicts == []
    release(kept)


def test_an_unknown_kind_is_refused_with_those_that_are_known(rig):
    with pytest.raises(ValueError, match=r"kind='fille'.*expected one of file, socket"):
        track(Thing(), kind="fille")


def test_what_takes_no_weak_reference_is_refused(rig):
    with pytest.raises(TypeError, match=r"got list, which takes no weak reference"):
        track([])

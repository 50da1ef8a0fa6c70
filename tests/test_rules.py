from __future__ import annotations

import pytest

from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.rules import RULES, Facts, HeldTooLong, judge


def facts(**known):
    return Facts(**{"age": 100.0, "idle": 0.0, "grace": 10.0, "threshold": 60.0, **known})


def test_a_handle_with_nothing_against_it_is_well():
    assert judge(facts(age=5.0)) is None


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"abandoned": True}, Reason.ABANDONED),
        ({"owner_finished_for": 10.0}, Reason.OWNER_FINISHED),
        ({"loop_closed_for": 10.0}, Reason.LOOP_CLOSED),
        ({"scope_ended_for": 10.0}, Reason.SCOPE_END),
        ({"exiting": True}, Reason.PROCESS_EXIT),
        ({"idle": 61.0}, Reason.HELD_TOO_LONG),
        ({"in_use": True}, Reason.SLOW),
    ],
)
def test_each_state_has_its_verdict(known, reason):
    assert judge(facts(**known)) is reason


@pytest.mark.parametrize("state", ["owner_finished_for", "loop_closed_for", "scope_ended_for"])
def test_nothing_is_accused_within_the_grace(state):
    assert judge(facts(**{state: 9.9})) is None


def test_the_rules_stand_in_the_order_of_their_strength():
    assert [rule.reason for rule in RULES] == list(Reason)
    assert [reason.strength for reason in Reason] == list(range(len(Reason)))


def test_the_strongest_verdict_wins():
    everything = {
        "abandoned": True,
        "owner_finished_for": 99.0,
        "loop_closed_for": 99.0,
        "scope_ended_for": 99.0,
        "exiting": True,
        "idle": 99.0,
    }
    for state, reason in zip(everything, Reason, strict=False):
        assert judge(facts(**everything)) is reason
        everything = {name: value for name, value in everything.items() if name != state}


@pytest.mark.parametrize(
    "known",
    [
        {"owner_finished_for": 99.0},
        {"loop_closed_for": 99.0},
        {"scope_ended_for": 99.0},
        {"exiting": True},
        {"idle": 99.0},
        {"in_use": True},
        {"running": True},
    ],
)
def test_what_belongs_to_the_process_is_exempt_from_all_but_abandonment(known):
    assert judge(facts(process=True, **known)) is None
    assert judge(facts(process=True, abandoned=True, **known)) is Reason.ABANDONED


def test_what_is_shared_outlives_whoever_took_it_first_but_not_its_loop_or_scope():
    assert judge(facts(shared=True, owner_finished_for=99.0)) is None
    assert judge(facts(shared=True, loop_closed_for=99.0)) is Reason.LOOP_CLOSED
    assert judge(facts(shared=True, scope_ended_for=99.0)) is Reason.SCOPE_END


def test_what_is_in_use_is_never_held_too_long_nor_left_by_its_owner():
    assert judge(facts(in_use=True, idle=99.0, owner_finished_for=99.0)) is Reason.SLOW
    assert judge(facts(in_use=True, age=59.0, owner_finished_for=99.0)) is None


def test_a_function_that_still_runs_has_it_at_hand_until_it_takes_the_next():
    assert judge(facts(running=True, idle=99.0)) is Reason.SLOW
    assert judge(facts(running=True, age=59.0, owner_finished_for=99.0)) is None
    assert judge(facts(running=True, replaced=True, owner_finished_for=99.0)) is Reason.OWNER_FINISHED


def test_a_daemon_thread_cut_off_at_exit_is_not_to_blame():
    assert judge(facts(exiting=True, owner_alive=True)) is None


def test_where_use_cannot_be_seen_only_a_crowd_is_evidence():
    assert judge(facts(idle=None, age=1e6, crowd=HeldTooLong.crowd - 1)) is None
    assert judge(facts(idle=None, age=1e6, crowd=HeldTooLong.crowd)) is Reason.HELD_TOO_LONG


def test_slow_alone_is_no_leak():
    assert [reason for reason in Reason if not reason.is_leak] == [Reason.SLOW]

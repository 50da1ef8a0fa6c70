from __future__ import annotations

from math import inf

import pytest

from crawlo_otel_leaks.holds import ENOUGH, FACTOR, Holds, threshold


def holds(*held):
    made = Holds()
    for seconds in held:
        made.add(seconds)
    return made


@pytest.mark.parametrize("seconds", [1e-6, 0.003, 0.25, 1.0, 7.0, 3600.0, 1e6])
def test_p99_of_equal_holds_is_at_most_twice_too_much(seconds):
    p99 = holds(*[seconds] * 200).p99()
    assert seconds <= p99 <= 2 * seconds + 2e-6


def test_p99_sees_past_one_outlier_in_a_hundred_and_no_further():
    assert holds(*[0.1] * 199, 1000.0).p99() < 1
    assert holds(*[0.1] * 190, *[1000.0] * 10).p99() >= 1000


def test_a_kind_without_threshold_has_none_whatever_its_site_did():
    assert threshold(holds(*[0.1] * ENOUGH), None, 30.0) == inf


def test_too_little_history_leaves_the_threshold_of_the_kind():
    assert threshold(holds(*[0.1] * (ENOUGH - 1)), 300.0, 30.0) == 300.0
    assert threshold(None, 300.0, 30.0) == 300.0


def test_a_quick_site_is_judged_sooner_but_never_before_the_grace():
    assert threshold(holds(*[0.1] * ENOUGH), 300.0, 30.0) == 30.0
    assert 40 <= threshold(holds(*[4.0] * ENOUGH), 300.0, 30.0) <= 80


def test_a_slow_site_is_judged_later():
    assert threshold(holds(*[3600.0] * ENOUGH), 300.0, 30.0) >= 3600.0 * FACTOR

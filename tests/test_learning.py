from __future__ import annotations

from math import inf

import pytest

from crawlo_otel_leaks import learning
from crawlo_otel_leaks.learning import ENOUGH, FACTOR, Holds


class Site:
    holds = None


def site_with(*held):
    site = Site()
    site.holds = Holds()
    for seconds in held:
        site.holds.add(seconds)
    return site


@pytest.mark.parametrize("seconds", [1e-6, 0.003, 0.25, 1.0, 7.0, 3600.0, 1e6])
def test_p99_of_equal_holds_is_at_most_twice_too_much(seconds):
    p99 = site_with(*[seconds] * 200).holds.p99()
    assert seconds <= p99 <= 2 * seconds + 2e-6


def test_p99_sees_past_one_outlier_in_a_hundred_and_no_further():
    assert site_with(*[0.1] * 199, 1000.0).holds.p99() < 1
    assert site_with(*[0.1] * 190, *[1000.0] * 10).holds.p99() >= 1000


def test_a_kind_without_threshold_has_none_whatever_its_site_did():
    assert learning.threshold(site_with(*[0.1] * ENOUGH), None, 30.0) == inf


def test_too_little_history_leaves_the_threshold_of_the_kind():
    assert learning.threshold(site_with(*[0.1] * (ENOUGH - 1)), 300.0, 30.0) == 300.0
    assert learning.threshold(Site(), 300.0, 30.0) == 300.0


def test_a_quick_site_is_judged_sooner_but_never_before_the_grace():
    assert learning.threshold(site_with(*[0.1] * ENOUGH), 300.0, 30.0) == 30.0
    assert 40 <= learning.threshold(site_with(*[4.0] * ENOUGH), 300.0, 30.0) <= 80


def test_a_slow_site_is_judged_later():
    assert learning.threshold(site_with(*[3600.0] * ENOUGH), 300.0, 30.0) >= 3600.0 * FACTOR

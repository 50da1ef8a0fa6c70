"""Scripted, seeded courses: what is growing, what only looks like it, and what says too little."""

from __future__ import annotations

import importlib.util
import math
import random
from pathlib import Path

import pytest

from crawlo_otel_leaks import trends
from crawlo_otel_leaks.trends import Trend, Verdict, trend

_SPEC = importlib.util.spec_from_file_location("courses", Path(__file__).parent.parent / "benchmarks" / "trends.py")
courses = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(courses)

SEEDS = 6
GROWN = [one for one in courses.SEQUENCES if one.grows and one.name not in courses.PATIENCE]
STILL = [one for one in courses.SEQUENCES if not one.grows]


def called_growing(sequence, hours=1):
    """In how many of all seeds and quantities."""
    points = courses.POINTS * hours
    made = [courses.course(sequence, one, seed, points) for one in courses.QUANTITIES for seed in range(SEEDS)]
    return sum(trend(one).verdict is Verdict.GROWING for one in made) / len(made)


def series(at, count=100, interval=15.0):
    return [(place * interval, float(at(place / count))) for place in range(count)]


def noise(seed=1, sigma=1.0):
    rng = random.Random(seed)
    return lambda _: rng.gauss(0, sigma)


# The verdict.


@pytest.mark.parametrize("sequence", STILL, ids=lambda one: one.name)
def test_what_is_no_growth_is_rarely_taken_for_it(sequence):
    assert called_growing(sequence) <= 0.13


@pytest.mark.parametrize("sequence", GROWN, ids=lambda one: one.name)
def test_growth_is_seen_within_the_hour(sequence):
    assert called_growing(sequence) >= 0.7


@pytest.mark.parametrize("name", courses.PATIENCE)
def test_growth_that_an_hour_of_noise_hides_is_seen_after_three(name):
    (sequence,) = [one for one in courses.SEQUENCES if one.name == name]
    assert called_growing(sequence, hours=3) >= 0.9


def test_the_verdict_is_the_same_for_the_same_points():
    points = courses.course(GROWN[0], courses.QUANTITIES[0], 1)
    assert trend(points) == trend(list(points))


def test_noise_is_taken_for_growth_no_more_often_than_promised():
    called = [trend(series(noise(seed))).verdict for seed in range(300)]
    assert called.count(Verdict.GROWING) <= 300 * trends.WHOLE


@pytest.mark.parametrize("scale", [1e-6, 1e9])
@pytest.mark.parametrize("sequence", [STILL[1], GROWN[0]], ids=lambda one: one.name)
def test_the_unit_does_not_matter(sequence, scale):
    points = courses.course(sequence, courses.QUANTITIES[0], 3)
    scaled = trend([(at, value * scale) for at, value in points])
    assert scaled.verdict is trend(points).verdict
    assert scaled.slope == pytest.approx(trend(points).slope * scale)


def test_growth_that_is_nothing_beside_its_one_step_is_none():
    (step,) = [one for one in STILL if one.name == "step, in the second half"]
    points = courses.course(step, courses.QUANTITIES[0], 13)  # whose noise looks like growth by each other test
    assert trend(points).verdict is Verdict.STABLE


def test_growth_with_a_gap_in_it_is_growth():
    points = [(at + 1000 * (at > 1200), value) for at, value in series(lambda at: 100 * at)]
    assert trend(points).verdict is Verdict.GROWING
    assert not trends._levels_off([(0, 0.0), (1, 1.0), (1000, 2.0), (1001, 2.0)]), "two crowds have no thirds"


# What says too little.


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0.0, 1.0)],
        series(lambda at: at, count=trends.ENOUGH),
        [(0.0, float(value)) for value in range(100)],
        [(float(place), math.nan) for place in range(100)],
        [(place % 50 * 0.001 + 1e6 * (place >= 50), float(place)) for place in range(400)],
    ],
    ids=["none", "one", "too few without the warm-up", "no time passes", "unknown", "two crowds far apart"],
)
def test_what_says_too_little_is_no_verdict(points):
    assert trend(points, limit=10.0) == Trend(Verdict.INSUFFICIENT, 0.0, 0.0, None)


def test_unknown_points_are_passed_over():
    points = series(lambda at: 30 * at)
    holes = [(at, math.inf if place % 5 == 0 else value) for place, (at, value) in enumerate(points)]
    assert trend(holes).verdict is Verdict.GROWING


# Slope, confidence, time to the limit.


def test_a_straight_line_has_its_slope_full_confidence_and_a_time_to_the_limit():
    told = trend(series(lambda at: 1000 * at), limit=2000.0)
    assert told.verdict is Verdict.GROWING
    assert told.slope == pytest.approx(1000 / 1500)
    assert told.confidence > 0.999
    assert told.eta == pytest.approx(1500, rel=0.1)


def test_what_reached_its_limit_has_no_time_left():
    assert trend(series(lambda at: 1000 * at), limit=500.0).eta == 0.0


@pytest.mark.parametrize("limit", [None, 100.0])
def test_only_growth_has_a_time_to_the_limit(limit):
    assert trend(series(lambda _: 50.0), limit) == Trend(Verdict.STABLE, 0.0, 1.0, None)
    assert trend(series(lambda at: 1000 * at), None).eta is None


def test_the_present_slope_is_that_of_the_second_half():
    told = trend(series(lambda at: 300 * min(at, 0.4) + 60 * max(at - 0.4, 0)))
    assert told.verdict is Verdict.GROWING
    assert told.slope == pytest.approx(60 / 1500, rel=0.05)


def test_growth_too_small_to_matter_is_none_however_certain():
    points = series(lambda at: 1000 + 9 * at)
    assert trend(points).verdict is Verdict.GROWING
    told = trend(points, least=0.01)
    assert (told.verdict, told.slope) == (Verdict.STABLE, pytest.approx(9 / 1500))
    assert trend(series(lambda at: 1000 + 13 * at), least=0.01).verdict is Verdict.GROWING


def test_what_levels_off_after_all_is_stable_with_confidence():
    told = trend(series(lambda at: 1 - math.exp(-at / 0.15)))
    assert told.verdict is Verdict.STABLE
    assert told.confidence > 0.9


# The parts, against values worked out elsewhere.


def test_sens_slope_is_the_median_of_slopes_and_ignores_wild_points():
    assert trends.sen_slope([(0, 1), (1, 3), (2, 5), (3, 100), (4, 9)]) == pytest.approx(2.0)
    assert trends.sen_slope([(0, 1)]) == trends.sen_slope([(1, 1), (1, 5)]) == 0.0


def test_mann_kendalls_s_and_its_variance_with_ties_are_those_worked_out_by_hand():
    values = [10, 22, 21, 30, 22, 30, 40, 40]
    test = trends.mann_kendall(list(enumerate(values)))
    # 28 pairs, 3 of them tied, 2 falling; (8*7*21 - 3 * 2*1*9) / 18.
    assert test.s == 23 - 2
    assert trends._variance(values) == pytest.approx((1176 - 54) / 18)


def test_the_chance_is_the_normal_ones_upper_tail():
    assert trends._chance(1 + 1.6449 * 10, 100) == pytest.approx(0.05, abs=1e-4)
    assert trends._chance(1, 100) == 0.5
    assert trends._chance(-5, 100) == trends._chance(0, 100) == 1.0


def test_autocorrelation_widens_the_variance_and_independence_hardly_does():
    rng, state, remembering = random.Random(2), 0.0, []
    for place in range(96):
        state = 0.8 * state + rng.gauss(0, 1)
        remembering.append((place, state))
    assert trends._inflation(remembering, 0.0) > 3
    assert trends._inflation(series(noise(), count=96), 0.0) < 1.5
    assert trends._inflation([(place, (-1.0) ** place) for place in range(50)], 0.0) == 1.0


@pytest.mark.parametrize("place", [1, 20, 50, 99])
def test_the_change_point_is_where_the_level_changes(place):
    assert trends.change_point([0.0] * place + [5.0] * (100 - place)) == place


def test_beside_its_step_a_step_is_nothing_and_a_slope_goes_on():
    assert trends.beside_largest_step(series(lambda at: at > 0.6)) == 1.0
    assert trends.beside_largest_step(series(lambda at: at)) < 0.001
    assert trends.beside_largest_step([(0, 1)]) == 1.0


def test_a_thinned_series_is_the_medians_of_equal_times():
    points = [(float(at), float(at % 10 == 3) * 100) for at in range(1000)]
    thin = trends.thinned(points, 50)
    assert len(thin) == 50
    assert {value for _, value in thin} == {0.0}
    assert trends.thinned(points[:50], 50) == points[:50]


def test_a_verdict_on_a_hundred_thousand_points_compares_pairs_of_few_only(monkeypatch):
    compared = []
    for quadratic in (trends.sen_slope, trends.mann_kendall, trends.beside_largest_step):
        counted = lambda points, real=quadratic: (compared.append(len(points)), real(points))[1]  # noqa: E731
        monkeypatch.setattr(trends, quadratic.__name__, counted)
    assert trend(series(lambda at: at, count=100_000)).verdict is Verdict.GROWING
    assert max(compared) == trends.MOST

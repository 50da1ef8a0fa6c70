"""The verdict from snapshots, without a process; and its text."""

from __future__ import annotations

import random

import pytest

from crawlo_otel_leaks import LeakDetector, analysis, leak_detector, leak_text, process
from crawlo_otel_leaks.snapshots import ResourceSnapshot
from crawlo_otel_leaks.trends import Verdict
from crawlo_otel_leaks.vitals import Point

MB = 1024 * 1024


def snapshot(number, **values):
    known = {
        "memory_mb": 100.0,
        "objects": 100_000,
        "num_fds": 20,
        "num_threads": 4,
        "tasks": 3,
        "sockets": 2,
        "db_connections": 1,
        "redis_connections": 0,
        **values,
    }
    return ResourceSnapshot(f"s{number}", timestamp=1000.0 + number, at=float(number), **known)


def series(count, **values):
    """Snapshots of which the values are functions of their number."""
    return [snapshot(n, **{name: of(n) for name, of in values.items()}) for n in range(count)]


def judged(snapshots, points=(), threshold_mb=10.0):
    changed = analysis.changes(snapshots[0], snapshots[-1])
    return analysis.potential_leaks((), analysis.trends(snapshots, points), changed, threshold_mb, 0.0)


def test_memory_that_grows_steadily_beyond_the_threshold_is_a_leak():
    (leak,) = judged(series(60, memory_mb=lambda n: 100.0 + n))
    assert leak["type"] == "memory"
    assert leak["severity"] == "high"
    assert leak["growth_mb"] == 59
    assert leak["growth_percent"] == 59
    assert leak["growth_per_second"] == pytest.approx(1, rel=0.1)


def test_objects_are_accused_beside_memory_alone():
    more = {"objects": lambda n: 100_000 + 1_000 * n}
    assert judged(series(60, **more)) == []
    assert [leak["type"] for leak in judged(series(60, **more, memory_mb=lambda n: 100.0 + n))] == ["memory", "objects"]


def test_memory_that_grows_by_less_than_the_threshold_is_none():
    assert judged(series(60, memory_mb=lambda n: 100.0 + n), threshold_mb=100) == []


@pytest.mark.parametrize("count", [2, 200])
def test_a_first_run_that_warms_up_is_none(count):
    """By 46 MB, 53 608 objects and 48 descriptors, as a fixed threshold would tell at once."""
    warm = {"memory_mb": lambda n: 146.0 if n else 100.0, "objects": lambda n: 153_608 if n else 100_000}
    assert judged(series(count, **warm, num_fds=lambda n: 68 if n else 20)) == []


def test_noise_is_none():
    rng = random.Random(1)
    assert judged(series(100, memory_mb=lambda _: 100 + rng.gauss(0, 5), num_fds=lambda _: rng.randint(10, 40))) == []


def test_descriptors_that_grow_are_a_leak_though_no_handle_explains_them():
    (leak,) = judged(series(60, num_fds=lambda n: 20 + n))
    assert (leak["type"], leak["severity"], leak["growth"], leak["sites"]) == ("file_descriptors", "medium", 59, [])


def test_what_the_detector_saw_between_two_snapshots_counts():
    points = [Point(at=float(n), wall=0.0, rss=(100 + n) * MB) for n in range(1, 99)]
    first, last = snapshot(0), snapshot(100, memory_mb=200.0)
    assert judged([first, last]) == []
    assert [leak["type"] for leak in judged([first, last], points)] == ["memory"]


def test_what_is_not_known_is_none():
    changed = analysis.changes(snapshot(0, sockets=None), snapshot(1))
    assert changed["sockets"] is None
    assert changed["tasks"] == 0


def test_types_of_which_there_are_more_are_told_and_what_an_estimate_may_err_by_is_not():
    least = process.SAMPLED
    grown = analysis.type_changes({"a.A": 1_000, "b.B": 10_000}, {"a.A": 3_000, "b.B": 10_000 + least, "c.C": 700})
    assert [(one["type"], one["growth"], one["growth_percent"]) for one in grown] == [
        ("a.A", 2_000, 200.0),
        ("c.C", 700, None),
    ]
    assert analysis.type_changes(None, {"a.A": 1}) == []


def test_a_trend_has_crawlos_names_too(rig):
    detector = LeakDetector("trends")
    detector.snapshot()
    detector.snapshot()
    assert detector.get_trend() == detector.get_trend("memory_mb")
    assert len(detector.get_trend("num_fds")) == 2
    assert detector.get_trend("file_descriptors") == detector.get_trend("num_fds")
    assert detector.get_trend("gc_objects") == detector.get_trend("objects")
    with pytest.raises(ValueError, match="'colour', expected one of memory_mb"):
        detector.get_trend("colour")


def test_a_long_series_is_thinned_and_keeps_its_beginning(rig, monkeypatch):
    monkeypatch.setattr(leak_detector, "MOST", 20)
    detector = LeakDetector("long")
    for number in range(100):
        detector.snapshot(str(number), types=False)
    names = [one.name for one in detector._snapshots]
    assert len(names) <= 20
    assert names[0] == "0"
    assert names[-5:] == ["95", "96", "97", "98", "99"]


# The text.


def told(status="healthy", **more):
    first, last = snapshot(0), snapshot(1, memory_mb=120.5)
    return {
        "status": status,
        "duration_seconds": 1.0,
        "changes": analysis.changes(first, last),
        "potential_leaks": [],
        "type_changes": [],
        "snapshot_count": 1,
        **more,
    }


LEAK = {
    "type": "http_sessions",
    "severity": "high",
    "growth": 9,
    "sites": [
        {
            "count": 9,
            "name": "ClientSession",
            "reason": "scope_end",
            "file": "app.py",
            "line": 12,
            "function": "fetch",
        },
    ],
}


def test_a_report_names_the_verdict_the_changes_and_the_sites():
    text = leak_text.render("x", told("leak_detected", potential_leaks=[LEAK]), series(3), "en")
    assert "LEAK DETECTED" in text
    assert "HTTP sessions: +9 (high)" in text
    assert "9 x ClientSession  scope_end  app.py:12 fetch" in text
    assert "memory (MB): +20.5 (+20.50%)" in text


def test_a_report_draws_trends():
    text = leak_text.render("x", told(), series(8, num_fds=lambda n: n), "en")
    assert "▁▂▃▄▅▆▇█  0 - 7  file descriptors" in text


def test_a_report_is_chinese_where_the_locale_is(monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "健康" in leak_text.render("x", told(), [])
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert "HEALTHY" in leak_text.render("x", told(), [])
    with pytest.raises(ValueError, match="'fr', expected one of en, zh"):
        leak_text.render("x", told(), [], "fr")


def test_both_languages_have_a_word_for_everything():
    english, chinese = leak_text._LANGUAGES["en"], leak_text._LANGUAGES["zh"]
    assert set(english) == set(chinese)
    assert set(analysis._TYPES.values()) <= set(english)
    assert {analysis.HEALTHY, analysis.LEAKING, analysis.UNKNOWN, *analysis.METRICS} <= set(english)


def test_a_report_of_too_little_says_what_is_missing(rig):
    assert "two snapshots" in LeakDetector("empty").generate_report("en")


def test_verdicts_are_those_of_trends():
    growing = analysis.trends(series(60, tasks=lambda n: n), ())
    assert growing["tasks"].verdict is Verdict.GROWING
    assert growing["memory_mb"].verdict is Verdict.STABLE

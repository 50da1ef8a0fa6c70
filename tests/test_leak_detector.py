from __future__ import annotations

import asyncio

import pytest
from leak_steps import types

from crawlo_otel_leaks import LeakDetector, cleanup_detectors, get_leak_detector, runtime, watching

pytest_plugins = ["leaky_work"]
CHANGES = {
    "memory_mb",
    "memory_percent",
    "objects",
    "objects_percent",
    "file_descriptors",
    "threads",
    "tasks",
    "sockets",
    "db_connections",
    "redis_connections",
}
KEYS = {
    "status",
    "duration_seconds",
    "baseline",
    "latest",
    "changes",
    "potential_leaks",
    "type_changes",
    "snapshot_count",
}


@pytest.fixture
def detector():
    return LeakDetector("tests")


@pytest.fixture
def nothing_watched(monkeypatch):
    """Nothing is, and nothing may be."""
    monkeypatch.setattr(runtime, "_runtime", None)
    monkeypatch.setenv("CRAWLO_OTEL_LEAKS_ENABLED", "false")


def analyzed(detector):
    detector.snapshot()
    return detector.analyze()


def test_an_analysis_has_all_keys(rig, detector):
    detector.set_baseline("before")
    told = analyzed(detector)
    assert set(told) == KEYS
    assert set(told["changes"]) == CHANGES
    assert told["baseline"]["name"] == "before"
    assert told["latest"]["name"] == "snapshot_0"
    assert told["status"] == "healthy"
    assert told["snapshot_count"] == 1


def test_without_a_snapshot_after_the_baseline_there_is_not_enough_data(rig, detector):
    detector.snapshot("too early")
    detector.set_baseline()
    told = detector.analyze()
    assert told["status"] == "insufficient_data"
    assert "snapshot" in told["message"]
    assert set(told["changes"].values()) == {0}
    assert set(told) == KEYS | {"message"}


def test_two_snapshots_do_without_a_baseline(rig, detector):
    detector.snapshot("one")
    assert detector.analyze()["status"] == "insufficient_data"
    detector.snapshot("two")
    assert detector.analyze()["status"] == "healthy"
    assert detector.analyze()["baseline"]["name"] == "one"


def test_asking_tells_no_leak_to_anybody_else(all_watched, detector, path):
    detector.set_baseline()
    with path.open():
        assert analyzed(detector)["status"] == "leak_detected"
    all_watched.settle()
    assert all_watched.verdicts == []


def test_a_new_baseline_begins_anew(all_watched, detector, path):
    detector.set_baseline()
    with path.open():
        assert analyzed(detector)["status"] == "leak_detected"
        detector.set_baseline()
        assert analyzed(detector)["status"] == "healthy"


def test_where_nothing_is_watched_little_is_known_and_it_says_how_to_know(nothing_watched, detector, path):
    detector.set_baseline()
    with path.open():
        told = analyzed(detector)
    assert told["status"] == "insufficient_data"
    assert "opentelemetry-instrument" in told["message"]
    assert told["changes"]["file_descriptors"] == 1
    assert told["changes"]["db_connections"] is None


def test_a_detector_of_a_runtime_that_was_stopped_knows_no_handles(rig, detector, monkeypatch):
    detector.set_baseline()
    monkeypatch.setattr(runtime, "_runtime", None)
    assert analyzed(detector)["status"] == "insufficient_data"


def test_where_nothing_is_instrumented_the_first_baseline_begins_to_watch(monkeypatch, detector, path):
    monkeypatch.setattr(runtime, "_runtime", None)
    try:
        detector.set_baseline()
        with path.open():
            assert types(analyzed(detector)) == {"file_descriptors": 1}
    finally:
        watching.end()
    assert runtime.current() is None
    with path.open():
        assert analyzed(detector)["status"] == "insufficient_data"


def test_what_cannot_be_instrumented_is_told_and_leaves_the_rest(monkeypatch, detector, path, caplog):
    class Broken:
        name, value = "crawlo_leaks_broken", "crawlo_otel_leaks.instrumentation.broken:Broken"

        def load(self):
            raise ImportError("no module named broken")

    known = watching._points()
    monkeypatch.setattr(watching, "_points", lambda: [Broken(), *known])
    monkeypatch.setattr(runtime, "_runtime", None)
    try:
        detector.set_baseline()
        with path.open():
            assert types(analyzed(detector)) == {"file_descriptors": 1}
    finally:
        watching.end()
    assert "crawlo_leaks_broken stays inert" in caplog.text


def test_what_the_environment_disables_is_not_instrumented(monkeypatch):
    disabled = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    monkeypatch.setenv(disabled, "crawlo_leaks_files, other")
    names = {point.name for point in watching._points()}
    assert "crawlo_leaks_files" not in names
    assert "crawlo_leaks_threads" in names
    monkeypatch.setenv(disabled, "*")
    assert watching._points() == []


def test_a_detector_has_one_instance_a_name_until_all_are_cleaned_up(rig):
    one = get_leak_detector("one")
    assert get_leak_detector("one") is one
    one.snapshot()
    cleanup_detectors()
    assert one.get_trend() == []
    assert get_leak_detector("one") is not one
    cleanup_detectors()


def test_on_an_event_loop_no_objects_are_counted_by_type(rig, detector):
    async def main():
        detector.set_baseline()
        return analyzed(detector)

    assert asyncio.run(main())["latest"]["object_types"] == {}
    assert analyzed(detector)["latest"]["object_types"]

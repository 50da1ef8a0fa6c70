"""One detector a process, and its thread, from start to stop."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import Reacting

from crawlo_otel_leaks import exits, runtime, ticker, track
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.runtime import Runtime
from crawlo_otel_leaks.settings import Settings

SOON = 10.0
"""Seconds after which something hangs."""


class Thing:
    """Something of the user's own."""


def test_the_thread_ticks_until_it_is_stopped():
    running = Runtime(Settings(scan_interval=0.01, grace=0.01))
    told = threading.Event()
    running.detector.sinks.append(Reacting(told.set))
    running.start()
    try:
        running.tracker.chores.append(told.set)
        assert told.wait(SOON)
        thread = running.ticker.thread
    finally:
        running.stop()
    assert not thread.is_alive()
    assert exits._ending is None


def test_the_thread_outlives_a_failure_of_its_own(caplog):
    running = Runtime(Settings(scan_interval=0.01))
    again = threading.Event()

    def fail():
        if running.tracker.errors:
            again.set()
        raise RuntimeError("a defect")

    running.tracker.chores.append(fail)
    running.start()
    try:
        assert again.wait(SOON)
    finally:
        running.stop()
    assert caplog.text.count("a defect") == 1


def test_a_runtime_that_another_followed_removes_no_hook_of_that():
    first, second = Runtime(Settings(scan_interval=60)), Runtime(Settings(scan_interval=60))
    first.start()
    second.start()
    first.stop()
    assert exits._ending is second
    second.stop()
    assert exits._ending is None


def test_the_detector_runs_while_it_has_a_user():
    assert runtime.current() is None
    running = runtime.start("one", Settings(scan_interval=60))
    try:
        assert runtime.start("two") is running
        runtime.stop("one")
        assert runtime.current() is running
    finally:
        runtime.stop("two")
    assert runtime.current() is None
    assert not running.ticker.thread.is_alive()


@pytest.mark.parametrize("settings", [Settings(enabled=False), Settings(level="off")])
def test_what_is_switched_off_starts_nothing(settings):
    assert runtime.start("one", settings) is None
    assert runtime.current() is None


def test_stopping_waits_without_the_lock_so_that_an_exporter_may_instrument(monkeypatch):
    monkeypatch.setattr(ticker, "JOIN", SOON)
    running = runtime.start("one", Settings(scan_interval=0.01))
    inside, done = threading.Event(), threading.Event()

    def chore():
        if not inside.is_set():
            inside.set()
            while runtime.current() is running:
                time.sleep(0.001)
            with runtime._lock:
                done.set()

    running.tracker.chores.append(chore)
    assert inside.wait(SOON)
    began = time.monotonic()
    runtime.stop("one")
    assert done.is_set()
    assert time.monotonic() - began < SOON


def test_a_file_that_the_detector_itself_opens_is_not_tracked(rig, tmp_path):
    path = tmp_path / "exported.txt"
    FilesInstrumentor().instrument()
    try:
        rig.runtime.detector.sinks.append(Reacting(lambda: path.open("w").close()))
        rig.pass_time(1)
        rig.recorder.released_handles.clear()  # what being imported opened
        track(Thing())
        before = rig.runtime.tracker.ignored
        rig.pass_time(1)
        assert path.exists()
        assert rig.runtime.tracker.ignored == before + 1
        assert [handle.label() for handle in rig.recorder.released_handles] == []
        path.open().close()  # the twin: the program's own is
        rig.pass_time(1)
        assert [handle.kind for handle in rig.recorder.released_handles] == ["file"]
    finally:
        FilesInstrumentor().uninstrument()

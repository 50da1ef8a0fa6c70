"""pause, finish, forked: nobody waits without end for a lock or an exporter."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import Reacting

from crawlo_otel_leaks import release, runtime, track

SOON = 10.0
"""Seconds after which something hangs."""


class Thing:
    """Something of the user's own."""


def _elsewhere(what):
    """Call on another thread; return the result, or fail if it hangs."""
    results = []
    thread = threading.Thread(target=lambda: results.append(what()), daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()
    return results[0]


def _free(running):
    """Whether another thread could tick right now."""

    def attempt():
        got = running._tick.acquire(timeout=0)
        if got:
            running._tick.release()
        return got

    return _elsewhere(attempt)


@pytest.fixture
def hanging(rig, monkeypatch):
    """A tick on another thread that hangs in an exporter; set the event to let it go."""
    monkeypatch.setattr(runtime, "PAUSE", 0.05)
    inside, go = threading.Event(), threading.Event()

    def hang():
        inside.set()
        go.wait(SOON)

    rig.runtime.detector.sinks.insert(0, Reacting(hang))
    track(Thing())
    thread = threading.Thread(target=rig.runtime.tick, daemon=True)
    thread.start()
    assert inside.wait(SOON)
    yield go
    go.set()
    thread.join(SOON)


# pause and resume.


def test_pause_keeps_the_tick_and_resume_gives_it_back(rig):
    rig.runtime.pause()
    assert not _free(rig.runtime)
    rig.runtime.resume()
    assert _free(rig.runtime)


def test_resume_releases_nothing_that_pause_did_not_acquire(rig, monkeypatch):
    monkeypatch.setattr(runtime, "PAUSE", 0.02)
    rig.runtime.resume()
    assert _free(rig.runtime)
    rig.runtime.pause()
    _elsewhere(lambda: (rig.runtime.pause(), rig.runtime.resume()))
    assert not _free(rig.runtime)
    rig.runtime.resume()
    assert _free(rig.runtime)


def test_pause_within_the_ticking_thread_itself_waits_for_nothing(rig, monkeypatch):
    monkeypatch.setattr(runtime, "PAUSE", SOON)
    took = []

    def fork():
        began = time.monotonic()
        rig.runtime.pause()
        rig.runtime.resume()
        took.append(time.monotonic() - began)

    rig.runtime.detector.sinks.append(Reacting(fork))
    track(Thing())
    rig.pass_time(1)
    assert took[0] < SOON / 2
    assert _free(rig.runtime)


def test_pause_gives_up_on_a_tick_that_hangs(rig, hanging):
    began = time.monotonic()
    rig.runtime.pause()
    rig.runtime.resume()
    assert time.monotonic() - began < SOON / 2
    assert not _free(rig.runtime)


# finish.


def test_finish_while_a_tick_hangs_ends_and_writes_what_is_known(rig, hanging, tmp_path, caplog):
    out = tmp_path / "out.json"
    object.__setattr__(rig.runtime.settings, "report", (str(out),))
    _elsewhere(lambda: rig.runtime.finish(exiting=True))
    assert "an exporter hangs" in caplog.text
    assert '"abandoned"' in out.read_text()
    assert rig.runtime.tracker.closed


def test_finish_happens_once(rig):
    kept = track(Thing())
    rig.runtime.finish(exiting=True)
    rig.runtime.finish(exiting=True)
    assert rig.verdicts == [("custom", "process_exit")]
    release(kept)


def test_finish_on_a_signal_accuses_nobody_of_still_holding(rig):
    kept = track(Thing())
    rig.runtime.finish(exiting=False)
    assert rig.verdicts == []
    release(kept)


def test_what_only_the_collector_finds_is_abandoned_at_exit(rig):
    thing = Thing()
    thing.itself = track(thing)
    del thing
    rig.runtime.finish(exiting=True)
    assert rig.verdicts == [("custom", "abandoned")]


def test_a_failure_while_finishing_is_counted_and_the_report_is_still_written(rig, monkeypatch, tmp_path, caplog):
    def break_down(**_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(rig.runtime.detector, "finish", break_down)
    object.__setattr__(rig.runtime.settings, "report", (str(tmp_path / "out.json"),))
    rig.runtime.finish(exiting=True)
    assert (tmp_path / "out.json").exists()
    assert rig.runtime.tracker.errors == 1
    assert "a defect" in caplog.text
    rig.runtime.tracker.errors = 0  # as expected; the rig refuses any other


def test_no_failure_to_write_a_report_leaves_finish(rig, monkeypatch, caplog):
    def break_down(*_):
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(runtime, "write", break_down)
    object.__setattr__(rig.runtime.settings, "report", ("out.json",))
    rig.runtime.finish(exiting=True)
    assert "cannot write the report to out.json" in caplog.text


# A forked child, as its hook leaves it.


def test_a_forked_child_begins_anew(rig):
    kept = track(Thing())
    rig.pass_time(2)
    rig.runtime.pause()
    rig.runtime._finished = True
    before = rig.runtime._tick
    rig.runtime.forked()
    assert rig.runtime._tick is not before
    assert _free(rig.runtime)
    assert rig.held == []
    assert set(rig.runtime.numbers.held.values()) == {0}
    assert rig.runtime.detector.findings.by_key == {}
    del kept  # the parent's: dropping it here is no leak of the child's
    rig.runtime.finish(exiting=True)
    assert rig.verdicts == []


def test_a_thread_that_cannot_be_started_is_counted_and_hurts_nobody(rig, monkeypatch, caplog):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    rig.runtime.forked()
    assert rig.runtime.tracker.errors == 1
    assert "can't start new thread" in caplog.text
    rig.runtime.stop()
    rig.runtime.tracker.errors = 0  # as expected; the rig refuses any other

"""A signal that woke nobody is heard all the same, and whoever else listens to signals is left alone."""

from __future__ import annotations

import os
import signal
import threading

import programs
import pytest
from receiver import HttpReceiver

from crawlo_otel_leaks import wakeups


@pytest.fixture
def receiver():
    with HttpReceiver() as started:
        yield started


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    before = signal.set_wakeup_fd(-1)
    monkeypatch.setattr(wakeups, "_notes", -1)
    yield
    signal.set_wakeup_fd(before)
    for descriptor in wakeups.descriptors():
        os.close(descriptor)
    signal.signal(wakeups.NUDGE, signal.SIG_DFL)


@pytest.fixture
def nudges(monkeypatch):
    """The signals that woke the main thread."""
    sent = []
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: sent.append((thread, number)))
    return sent


NUDGE = (threading.main_thread().ident, wakeups.NUDGE)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_ends_whose_main_thread_began_to_wait_just_as_it_was_told_to(tmp_path, receiver, method):
    # The signal reaches another thread, so that it wakes the main one as little as one that came a moment too early.
    source = f"""
import multiprocessing, signal, threading, time

def work():
    left = open("childs.txt", "w")
    del left
    end = lambda: (time.sleep(0.2), signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
    threading.Thread(target=end, daemon=True).start()
    for_ever = threading.Lock()
    for_ever.acquire()
    for_ever.acquire()

if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work)
    child.start()
    child.join()
    print(child.exitcode)
"""
    done = programs.run(tmp_path, source, receiver, **programs.NO_TICK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-15\n", "")
    assert programs.told(receiver) == [("childs.txt", "abandoned")]


def test_only_the_signal_that_is_asked_for_has_the_main_thread_woken(nudges):
    wakeups.listen()
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    wakeups.nudge(signal.SIGTERM)
    assert nudges == []
    wakeups.nudge(signal.SIGUSR1)
    assert nudges == []  # noted before anybody asked for it
    os.kill(os.getpid(), signal.SIGUSR1)
    wakeups.nudge(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, handler)
    assert nudges == [NUDGE]


def test_the_main_thread_is_woken_a_few_times_for_a_signal_and_then_left_alone(nudges):
    wakeups.listen()
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, handler)
    for _ in range(wakeups.NUDGES + 3):
        wakeups.nudge(signal.SIGUSR1)
    assert nudges == [NUDGE] * wakeups.NUDGES


def test_the_nudge_itself_says_nothing():
    wakeups.listen()
    signal.pthread_kill(threading.main_thread().ident, wakeups.NUDGE)
    assert signal.getsignal(wakeups.NUDGE) is not signal.SIG_DFL


def test_an_event_loop_that_listens_keeps_its_descriptor(nudges):
    theirs = os.memfd_create("theirs")
    os.set_blocking(theirs, False)
    signal.set_wakeup_fd(theirs)
    wakeups.listen()
    assert wakeups.descriptors() == set()
    assert signal.set_wakeup_fd(-1) == theirs
    os.close(theirs)
    wakeups.nudge(signal.SIGTERM)
    assert nudges == []


def test_the_child_of_a_child_has_notes_of_its_own(monkeypatch):
    wakeups.listen()
    (inherited,) = wakeups.descriptors()
    wakeups.listen()
    (own,) = wakeups.descriptors()
    os.close(inherited)
    assert own != inherited
    assert signal.set_wakeup_fd(-1) == own


def test_a_signal_that_the_program_uses_is_not_taken():
    signal.signal(wakeups.NUDGE, handler := lambda *_: None)
    wakeups.listen()
    assert wakeups.descriptors() == set()
    assert signal.getsignal(wakeups.NUDGE) is handler


def test_trio_finds_nobody_listening(tmp_path):
    (tmp_path / "trio.py").write_text("import signal\nfound = signal.set_wakeup_fd(-1)\n")
    body = """
import signal, sys
from crawlo_otel_leaks import wakeups

def listens():
    found = signal.set_wakeup_fd(-1)
    if found != -1:
        signal.set_wakeup_fd(found)
    return found != -1

wakeups.listen()
print(listens())
import trio
print(listens())
wakeups.listen()
print(listens())
"""
    done = programs.run(tmp_path, body, instrumented=False)
    assert (done.stdout, done.stderr) == ("True\nFalse\nFalse\n", "")


def test_a_system_without_memory_files_goes_without(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    wakeups.listen()
    assert wakeups.descriptors() == set()


def test_notes_that_the_program_has_closed_wake_nobody(nudges):
    wakeups.listen()
    signal.set_wakeup_fd(-1)
    (notes,) = wakeups.descriptors()
    os.close(notes)
    wakeups.nudge(signal.SIGTERM)
    assert nudges == []
    wakeups._notes = -1

"""A look at who is executing what keeps nothing of the host alive."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
from conftest import SCAN
from garbage import collect

from crawlo_otel_leaks import owner
from crawlo_otel_leaks.instrumentation.threads import ThreadsInstrumentor
from crawlo_otel_leaks.model import NamedHandle


class Body:
    """What the host has in a variable."""


@pytest.fixture(autouse=True)
def no_collector():
    collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def at_work(rig):
    """A watched thread that has a variable, until it is told to end; looked at by whoever asks."""
    ThreadsInstrumentor().instrument()
    ready, done, refs = threading.Event(), threading.Event(), []

    def work():
        body = Body()
        refs.append(weakref.ref(body))
        ready.set()
        done.wait(10)
        return body

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(10)
    rig.runtime.tracker.acquire(NamedHandle("file", "due"), sys._getframe())

    def ended():
        done.set()
        thread.join(10)
        return refs[0]

    yield ended
    ended()
    ThreadsInstrumentor().uninstrument()


def test_what_a_thread_had_dies_with_its_function_however_often_we_looked(rig, at_work):
    rig.pass_time(10 * SCAN, steps=10)
    assert at_work()() is None


def test_also_what_the_thread_that_looks_has(rig, at_work):
    def look():
        body = Body()
        rig.pass_time(10 * SCAN, steps=10)
        rig.runtime.detector.finish(exiting=False)
        return weakref.ref(body)

    assert look()() is None
    assert at_work()() is None


def test_of_the_thread_that_asks_the_first_frame_outside_of_the_package_is_told(rig):
    frames = owner.current_frames()
    assert frames[threading.get_ident()] is sys._getframe()

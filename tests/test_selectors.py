from __future__ import annotations

import asyncio
import os
import resource
import selectors
import threading
from pathlib import Path

import pytest
from conftest import watching
from garbage import collect
from opentelemetry import trace

from crawlo_otel_leaks import scope
from crawlo_otel_leaks.instrumentation._things import CROWD
from crawlo_otel_leaks.instrumentation.selectors import LoopHandle, SelectorHandle, SelectorsInstrumentor
from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor

tracer = trace.get_tracer("tests")
uvloop = pytest.importorskip("uvloop")
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
ABANDONED = ("custom", "abandoned")
BEFORE = {name: vars(selectors.DefaultSelector).get(name) for name in ("__init__", "close")}


@pytest.fixture
def watched(rig):
    """Event loops, selectors and sockets are watched."""
    with watching(rig, SelectorsInstrumentor(), SocketsInstrumentor()):
        yield rig


@LOOPS
def test_a_loop_is_held_until_it_is_closed(watched, new_loop):
    loop = new_loop()
    (handle,) = watched.held
    assert handle.label() == f"event loop {type(loop).__module__.partition('.')[0]}.{type(loop).__qualname__}"
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    watched.settle()
    assert watched.held == []
    assert watched.verdicts == []


def test_it_answers_for_its_selector_and_its_pair(watched):
    loop = asyncio.new_event_loop()
    (handle,) = watched.held
    expected = {loop._selector.fileno(), loop._ssock.fileno(), loop._csock.fileno()}
    assert set(handle.descriptors()) == expected
    loop.close()


def test_and_for_a_selector_that_it_was_given(watched):
    with scope("job"):
        loop = asyncio.SelectorEventLoop(selectors.DefaultSelector())
    assert {type(one) for one in watched.held} == {LoopHandle, SelectorHandle}
    watched.settle()
    assert [type(leak.handle) for leak in watched.recorder.opened_leaks] == [LoopHandle]
    assert any("selector" in held for held in watched.recorder.opened_leaks[0].holds)
    loop.close()
    watched.settle()
    assert watched.held == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@LOOPS
def test_a_loop_that_is_dropped_open_is_abandoned_once(watched, new_loop):
    new_loop()
    collect()
    watched.settle()
    assert watched.verdicts == [ABANDONED]


def test_a_loop_that_runs_is_in_use_however_long(watched):
    done, over = threading.Event(), []

    def serve():
        with tracer.start_as_current_span("start"):
            loop = asyncio.new_event_loop()
        loop.run_until_complete(loop.run_in_executor(None, done.wait))
        loop.close()
        over.append(loop)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(2)]
    for one in threads:
        one.start()
    watched.settle()
    done.set()
    for one in threads:
        one.join(10)
    watched.settle()
    assert len(over) == 2
    assert watched.verdicts == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_loop_that_nobody_asked_for_may_outlive_the_program(watched):
    policy = asyncio.DefaultEventLoopPolicy()
    loops = [policy.get_event_loop(), asyncio.new_event_loop()]
    watched.runtime.finish(exiting=True)
    assert watched.verdicts == [("custom", "process_exit")]
    assert watched.recorder.opened_leaks[0].handle.referent() is loops[1]
    for loop in loops:
        loop.close()


def test_a_selector_is_held_until_it_is_closed(watched):
    with selectors.DefaultSelector() as selector:
        (handle,) = watched.held
        assert list(handle.descriptors()) == [selector.fileno()]
        assert handle.label() == f"selector {type(selector).__qualname__}"
    watched.settle()
    assert watched.held == []
    assert watched.verdicts == []


def test_one_that_is_dropped_open_is_abandoned(watched):
    selectors.DefaultSelector()
    collect()
    watched.settle()
    assert watched.verdicts == [ABANDONED]


def test_a_scopes_selectors_are_its_own(watched):
    with scope("job"):
        made = [selectors.DefaultSelector() for _ in range(CROWD)]
    watched.settle()
    assert watched.verdicts == [("custom", "scope_end")] * CROWD
    for one in made:
        one.close()


def test_the_refused_learns_who_holds_the_descriptors(watched):
    kept = [Path(os.devnull).open() for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (kept[-1].fileno() + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as refused:
            kept.extend(selectors.DefaultSelector() for _ in range(50))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(getattr(refused.value, "__notes__", [])) == 1
    for one in kept:
        one.close()


def test_uninstrumented_nothing_of_ours_is_left(watched):
    loop, selector = asyncio.new_event_loop(), selectors.DefaultSelector()
    SelectorsInstrumentor().uninstrument()
    assert {name: vars(selectors.DefaultSelector).get(name) for name in BEFORE} == BEFORE
    assert watched.held == []
    loop.close()
    selector.close()

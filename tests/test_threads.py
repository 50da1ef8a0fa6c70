from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import logging.handlers
import multiprocessing.pool
import queue
import socketserver
import sys
import threading
import weakref

import pytest
from conftest import watching
from opentelemetry import trace

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.instrumentation._runners import CROWD
from crawlo_otel_leaks.instrumentation.threads import ThreadHandle, ThreadsInstrumentor
from crawlo_otel_leaks.model import Reason

tracer = trace.get_tracer("tests")
LEAK = ("thread", "owner_finished")
START = vars(threading.Thread)["start"]
INNER = vars(threading.Thread)["_bootstrap_inner"]


@pytest.fixture
def watched(rig):
    """Threads are watched."""
    with watching(rig, ThreadsInstrumentor()):
        yield rig


@pytest.fixture
def gate():
    """What leaked threads wait for; the test's end lets them go."""
    event, threads = threading.Event(), []
    yield lambda: threads.append(threading.current_thread()) or event.wait(60)
    event.set()
    for thread in threads:
        thread.join(10)


def running(rig):
    rig.runtime.tick()
    return [handle for handle in rig.held if isinstance(handle, ThreadHandle)]


def start(work, *args, name=None, daemon=None):
    thread = threading.Thread(target=work, args=args, name=name, daemon=daemon)
    thread.start()
    return thread


def request(work, *args):
    """Start a thread in a request, and end without waiting for it."""
    with tracer.start_as_current_span("request"):
        return start(work, *args, daemon=True)


class Own(threading.Thread):
    def run(self):
        self.ran = True


def fail():
    raise LookupError("mine")


def leave():
    sys.exit(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: start(int),
        lambda: start(int, daemon=True),
        lambda: start(fail),
        lambda: start(leave),
        Own,
        lambda: threading.Timer(0.001, int),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_is_released_before_anybody_has_joined_it(watched, make):
    for _ in range(20):
        thread = make()
        if not thread.ident:
            thread.start()
        thread.join()
        assert [handle for handle in watched.held if handle.kind == "thread"] == []
    watched.settle()
    assert watched.verdicts == []
    assert len(watched.recorder.released_handles) == 20


def test_threads_that_outlive_their_requests_are_leaks_at_their_line(watched, gate):
    for _ in range(2):
        request(gate)
    watched.settle()
    assert watched.verdicts == [LEAK] * 2
    leak = watched.recorder.opened_leaks[0]
    assert (leak.where.function, leak.where.text) == ("start", "thread.start()")
    assert leak.name.startswith("Thread-")
    assert leak.owner.span is not None


def test_a_leaked_thread_that_ends_later_is_resolved(watched):
    proceed = threading.Event()
    threads = [request(lambda: proceed.wait(60)) for _ in range(2)]
    watched.settle()
    assert watched.verdicts == [LEAK] * 2
    proceed.set()
    for thread in threads:
        thread.join()
    watched.runtime.tick()
    assert len(watched.recorder.resolved_leaks) == 2


def test_one_of_its_line_is_shared_by_design(watched, gate):
    request(gate)
    watched.settle()
    assert len(running(watched)) == 1
    assert watched.verdicts == []


def test_those_that_end_within_the_grace_are_none(watched):
    for _ in range(3):
        proceed = threading.Event()
        threads = [request(lambda proceed=proceed: proceed.wait(60)) for _ in range(3)]
        watched.pass_time(9, steps=9)
        proceed.set()
        for thread in threads:
            thread.join()
    watched.settle()
    assert watched.verdicts == []


def test_without_a_span_or_task_nobody_finishes(watched, gate):
    for _ in range(3):
        start(gate)
    watched.settle()
    assert watched.verdicts == []


def test_nested_threads_that_a_scope_leaves_are_all_found_by_name(watched, gate):
    started = threading.Event()

    def inner():
        started.set()
        gate()

    def outer():
        start(inner, name="inner")
        gate()

    with scope("run"):
        start(outer, name="outer")
    assert started.wait(10)
    watched.settle()
    told = {(leak.name, leak.reason) for leak in watched.recorder.opened_leaks}
    assert told == {("outer", Reason.SCOPE_END), ("inner", Reason.SCOPE_END)}


def test_adopted_ones_may_outlive_anybody(watched, gate):
    for _ in range(3):
        adopt(request(gate))
    watched.settle()
    assert watched.verdicts == []


class Stepping:
    """Threads, each started by a request, that go on by one step when they are told to."""

    def __init__(self):
        self.threads = []
        self.turns, self.done, self.stop = [], threading.Semaphore(0), threading.Event()

    def more(self, count):
        while len(self.threads) < count:
            self.turns.append(threading.Semaphore(0))
            self.threads.append(request(self.steps, self.turns[-1]))

    def step(self, turn):
        turn.acquire()
        self.done.release()

    def steps(self, turn):  # at seven places in turn, which is a multiple of no time between two looks
        while not self.stop.is_set():
            self.step(turn)
            self.step(turn)
            self.step(turn)
            self.step(turn)
            self.step(turn)
            self.step(turn)
            self.step(turn)

    def go_on(self, rig, seconds):
        for _ in range(seconds):
            for turn in self.turns:
                turn.release()
            for _ in self.turns:
                assert self.done.acquire(timeout=10)
            rig.pass_time(1)

    def end(self):
        self.stop.set()
        for turn, thread in zip(self.turns, self.threads, strict=True):
            turn.release(7)
            thread.join(10)


def test_what_goes_on_is_work_in_progress_until_it_is_a_crowd(watched):
    stepping = Stepping()
    stepping.more(2)
    stepping.go_on(watched, 40)
    assert watched.verdicts == []
    stepping.more(CROWD)
    stepping.go_on(watched, 40)
    assert watched.verdicts == [LEAK] * CROWD
    stepping.end()


def test_a_timer_ends_by_itself(watched):
    timers = [threading.Timer(60, int) for _ in range(3)]
    with tracer.start_as_current_span("request"):
        for timer in timers:
            timer.start()
    watched.settle()
    assert len(running(watched)) == 3
    assert watched.verdicts == []
    for timer in timers:
        timer.cancel()
        timer.join()


def test_a_daemon_is_cut_off_at_exit(watched, gate):
    start(gate, daemon=True)
    watched.runtime.finish(exiting=True)
    assert watched.verdicts == []


def executors():
    with tracer.start_as_current_span("request"), concurrent.futures.ThreadPoolExecutor(3) as executor:
        list(executor.map(abs, range(100)))
        yield


def default_executor():
    async def main():
        await asyncio.gather(*(asyncio.to_thread(abs, 1) for _ in range(10)))

    with tracer.start_as_current_span("request"):
        asyncio.run(main())
        yield


def pools():
    with tracer.start_as_current_span("request"), multiprocessing.pool.ThreadPool(2) as pool:
        pool.map(abs, range(10))
        yield


def listeners():
    listener = logging.handlers.QueueListener(queue.Queue())
    with tracer.start_as_current_span("request"):
        listener.start()
    yield
    listener.stop()


@pytest.mark.parametrize("program", [executors, default_executor, pools, listeners])
def test_threads_of_the_standard_library_are_ignored_and_counted(watched, program):
    before = watched.runtime.tracker.ignored
    for _ in program():
        watched.settle()
        # A ThreadPool's workers are of a class of multiprocessing's own, and it starts them itself.
        assert running(watched) == []
    assert watched.runtime.tracker.ignored > before
    assert watched.verdicts == []


def test_a_servers_threads_are_its_own(watched):
    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    server = Server(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    serving = start(server.serve_forever, 0.01)
    server.process_request(*_pair())
    assert [handle.name for handle in running(watched)] == [serving.name]
    server.shutdown()
    serving.join()
    server.server_close()


def _pair():
    import socket  # noqa: PLC0415

    one, other = socket.socketpair()
    other.close()
    return one, ("127.0.0.1", 1)


def test_our_own_threads_and_telemetrys_are_ignored(watched):
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415

    before = watched.runtime.tracker.ignored
    processor = BatchSpanProcessor(ConsoleSpanExporter())
    watched.runtime.ticker.start()
    assert running(watched) == []
    assert watched.runtime.tracker.ignored == before + 2
    watched.runtime.ticker.stop()
    processor.shutdown()


def test_a_thread_that_cannot_be_started_is_none(watched, monkeypatch):
    name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"

    def refuse(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, name, refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start(int)
    monkeypatch.undo()
    assert running(watched) == []


def test_one_that_is_started_twice_is_refused_and_still_watched(watched, gate):
    thread = start(gate)
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        thread.start()
    assert len(running(watched)) == 1


def test_a_thread_dies_as_soon_as_it_is_dropped(watched):
    thread = start(int)
    thread.join()
    ref = weakref.ref(thread)
    watched.runtime.tick()
    gc.disable()
    del thread
    try:
        assert ref() is None
    finally:
        gc.enable()


def test_an_exit_that_waits_for_a_thread_is_told_once(watched, gate, monkeypatch, caplog):
    start(gate, name="stays")
    start(gate, name="daemon", daemon=True)
    with monkeypatch.context() as patched:
        over = threading.Thread()
        patched.setattr(threading, "main_thread", lambda: over)
        watched.pass_time(9, steps=9)
        assert caplog.messages == []
        watched.pass_time(20, steps=20)
    (message,) = caplog.messages
    assert "waits to exit for thread stays, started by" in message
    assert "in start" in message


def test_instrument_and_uninstrument_restore_all(rig):
    ThreadsInstrumentor().instrument()
    assert vars(threading.Thread)["start"] is not START
    ThreadsInstrumentor().uninstrument()
    assert vars(threading.Thread)["start"] is START
    assert vars(threading.Thread)["_bootstrap_inner"] is INNER
    assert rig.runtime.tracker.chores == rig.runtime.tracker.resets == rig.runtime.finders == []


def test_a_forked_child_forgets_its_parents_threads(watched, gate):
    start(gate)
    assert len(running(watched)) == 1
    watched.runtime.tracker.clear()  # as in a child
    watched.settle()
    assert running(watched) == []
    assert len(ThreadsInstrumentor()._threads.held) == 0

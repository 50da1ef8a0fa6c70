"""Forks and children: each tells its own leaks once, and none hangs."""

from __future__ import annotations

import programs
import pytest
from receiver import HttpReceiver

DROPPED = ("dropped.txt", "abandoned")

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def unmeasured(monkeypatch):
    """Coverage forks badly beside busy threads: a child inherits its lock as it is."""
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def receiver():
    with HttpReceiver() as started:
        yield started


def _reports(where):
    return sorted(path.name for path in where.glob("out*.json"))


def test_a_forked_child_tells_its_own_leaks_and_not_its_parents(tmp_path, receiver):
    body = """
def parent():
    kept = open("parents.txt", "w")
    pid = os.fork()
    if not pid:
        del kept
        with trace.get_tracer("app").start_as_current_span("in child"):
            drop("childs.txt")
        print(os.getpid(), flush=True)
        sys.exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    kept.close()

parent()
"""
    done = programs.run(tmp_path, programs.source(body), receiver, REPORT="out.json", **programs.NO_TICK)
    # From 3.12 on, Python warns of forking beside threads, of which the SDK has some too.
    assert (done.returncode, "Traceback" in done.stderr, "crawlo" in done.stderr) == (0, False, False)
    child = done.stdout.strip()
    assert programs.told(receiver) == [("childs.txt", "abandoned")]
    assert receiver.span("leak file").resource == receiver.span("in child").resource
    assert _reports(tmp_path) == sorted(["out.json", f"out.{child}.json"])
    assert programs.leaks(tmp_path / "out.json") == []
    assert programs.leaks(tmp_path / f"out.{child}.json") == [("file", "abandoned", "childs.txt")]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_tells_its_leaks(tmp_path, receiver, method):
    source = f"""
import multiprocessing, os, sys

def work(code):
    left = open("childs.txt", "w")
    del left
    sys.exit(code)

if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work, args=(5,))
    child.start()
    child.join()
    print(child.exitcode)
"""
    done = programs.run(tmp_path, source, receiver, REPORT="out.json", **programs.NO_TICK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")
    assert programs.told(receiver) == [("childs.txt", "abandoned")]
    own = [name for name in _reports(tmp_path) if programs.leaks(tmp_path / name)]
    assert len(own) == 1
    assert own != ["out.json"]
    assert programs.leaks(tmp_path / "out.json") == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_multiprocessing_gives_its_results_and_ends(tmp_path, receiver, method):
    source = f"""
import multiprocessing

def work(number):
    with open(f"child{{number}}.txt", "w"):
        return number * 2

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(work, range(5)))
"""
    done = programs.run(tmp_path, source, receiver)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 2, 4, 6, 8]\n", "")
    assert programs.told(receiver) == []


def test_a_terminated_child_of_multiprocessing_dies_of_the_signal_and_tells(tmp_path, receiver):
    source = """
import multiprocessing, time

def work(ready):
    left = open("childs.txt", "w")
    del left
    ready.set()
    time.sleep(30)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=work, args=(ready,))
    child.start()
    ready.wait()
    child.terminate()
    child.join()
    print(child.exitcode)
"""
    done = programs.run(tmp_path, source, receiver, **programs.NO_TICK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-15\n", "")
    assert programs.told(receiver) == [("childs.txt", "abandoned")]


def test_a_subprocess_never_overwrites_its_parents_report(tmp_path, receiver):
    (tmp_path / "child.py").write_text(programs.source("drop('childs.txt'); print(os.getpid())\n"))
    body = """
import subprocess
drop()
print(subprocess.run([sys.executable, 'child.py'], capture_output=True).stdout.decode())
"""
    done = programs.run(tmp_path, programs.source(body), receiver, REPORT="out.json", **programs.NO_TICK)
    child = done.stdout.strip()
    assert (done.returncode, done.stderr) == (0, "")
    assert _reports(tmp_path) == sorted(["out.json", f"out.{child}.json"])
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]
    assert programs.leaks(tmp_path / f"out.{child}.json") == [("file", "abandoned", "childs.txt")]


def test_a_program_that_another_replaces_keeps_its_report_path(tmp_path, receiver):
    (tmp_path / "next.py").write_text(programs.source("drop()\n"))
    body = "os.execv(sys.executable, [sys.executable, 'next.py'])\n"
    done = programs.run(tmp_path, programs.source(body), receiver, REPORT="out.json", **programs.NO_TICK)
    assert done.returncode == 0
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]


LOCKED = """
from crawlo_otel_leaks import runtime
lock = threading.Lock()

class Exporter:
    def opened(self, leak, finding):
        with lock:
            time.sleep(0.05)
    def resolved(self, leak, finding): pass
    def released(self, handles): pass

runtime.current().detector.sinks.append(Exporter())
codes = []
for _ in range(20):
    drop()
    time.sleep(0.02)
    pid = os.fork()
    if not pid:
        os._exit(lock.acquire(timeout=1))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(set(codes))
"""


def test_a_fork_copies_no_lock_that_our_tick_holds_in_an_exporter(tmp_path, receiver):
    done = programs.run(tmp_path, programs.source(LOCKED), receiver, SCAN_INTERVAL="0.01")
    assert (done.returncode, done.stdout) == (0, "{1}\n")


FORKS = """
running = True

def churn():
    while running:
        with trace.get_tracer("app").start_as_current_span("s"):
            drop("churned.txt")
            with open("closed.txt", "w"):
                pass

threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
codes = set()
for _ in range(60):
    pid = os.fork()
    if not pid:
        with trace.get_tracer("app").start_as_current_span("in child"):
            drop("childs.txt")
        from crawlo_otel_leaks import runtime
        runtime.current().tick()
        os._exit(9)
    end = time.monotonic() + 20
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    codes.add(os.waitstatus_to_exitcode(ended[1]))
running = False
for thread in threads:
    thread.join()
print(codes)
"""


def test_forks_while_the_detector_ticks_under_load_hang_no_child(tmp_path, receiver):
    done = programs.run(tmp_path, programs.source(FORKS), receiver, SCAN_INTERVAL="0.01", GRACE="0")
    assert (done.returncode, done.stdout) == (0, "{9}\n")


def test_an_exporter_that_hangs_in_a_tick_delays_no_fork_after_its_first_second(tmp_path, receiver):
    body = """
time.sleep(1)
began = time.monotonic()
for _ in range(5):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print(time.monotonic() - began < 3)
"""
    done = programs.run(tmp_path, programs.source(programs.HANGING.format(seconds=60) + body), receiver)
    assert (done.returncode, done.stdout) == (0, "hanging\nTrue\n")

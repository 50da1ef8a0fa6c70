"""However a process ends, forks or is told to end: what was found gets out, and its end is as without us."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import programs
import pytest
from receiver import HttpReceiver

from crawlo_otel_leaks import exits, semconv

# No tick comes before the end: all that is told is told by the exit.
NO_TICK = {"SCAN_INTERVAL": "60"}
PREAMBLE = """
import atexit, os, signal, sys, threading, time
from opentelemetry import trace

def drop(name="dropped.txt"):
    left = open(name, "w")

"""
DROPPED = ("dropped.txt", "abandoned")
KEPT = ("kept.txt", "process_exit")


def _source(body):
    return PREAMBLE + body


def _told(receiver):
    """Name and reason of each leak, which span and event must agree on."""
    spans, events = (
        sorted((one.attributes[semconv.HANDLE_NAME], one.attributes[semconv.LEAK_REASON]) for one in items)
        for items in (receiver.spans("leak "), receiver.events(semconv.LEAK_DETECTED))
    )
    assert spans == events
    return spans


def _counted(receiver):
    return sum(point.as_int for _, point in receiver.points("crawlo.leak.count"))


@pytest.fixture
def receiver():
    with HttpReceiver() as started:
        yield started


ENDINGS = {
    "returns": "",
    "sys.exit": "sys.exit(3)",
    "exception": "raise ValueError('its own')",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)",
    "SIGINT": "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)",
    "SIGTERM in a thread's time": "threading.Thread(target=lambda: os.kill(os.getpid(), 15)).start(); time.sleep(30)",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_all_is_told_before_the_end_and_the_end_is_the_programs_own(tmp_path, receiver, how):
    source = _source(f"drop(); kept = open('kept.txt', 'w'); print('result', flush=True)\n{ENDINGS[how]}\n")
    done = programs.run(tmp_path, source, receiver, REPORT="out.json", **NO_TICK)
    without = programs.run(tmp_path, source, instrumented=False)
    assert (done.returncode, done.stdout, done.stderr) == (without.returncode, without.stdout, without.stderr)
    # Nobody accuses what a program holds that is killed at work.
    expected = [DROPPED] if "SIGTERM" in how else [DROPPED, KEPT]
    assert _told(receiver) == expected
    assert _counted(receiver) == len(expected)
    assert [(reason, name) for _, reason, name in programs.leaks(tmp_path / "out.json")] == [
        (reason, name) for name, reason in expected
    ]


@pytest.mark.parametrize("how", ENDINGS)
def test_a_clean_program_ends_without_a_word(tmp_path, receiver, how):
    source = _source(f"open('closed.txt', 'w').close()\n{ENDINGS[how]}\n")
    done = programs.run(tmp_path, source, receiver, REPORT="out.json", **NO_TICK)
    assert done.returncode == programs.run(tmp_path, source, instrumented=False).returncode
    assert _told(receiver) == []
    assert json.loads((tmp_path / "out.json").read_text())["status"] == "healthy"


def test_what_the_programs_own_exit_hooks_release_is_no_leak(tmp_path, receiver):
    source = _source("kept = open('kept.txt', 'w'); atexit.register(kept.close); drop()\n")
    assert programs.run(tmp_path, source, receiver, **NO_TICK).returncode == 0
    assert _told(receiver) == [DROPPED]


LATE = """
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from opentelemetry import _logs, metrics
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

def set_up():
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider()
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))

FilesInstrumentor().instrument()
before = open("before.txt", "w"); atexit.register(before.close)
{pause}
set_up()
after = open("after.txt", "w"); atexit.register(after.close)
with trace.get_tracer("app").start_as_current_span("acquiring"):
    drop()
kept = open("kept.txt", "w")
{pause}
{end}
"""


@pytest.mark.parametrize("pause", ["", "time.sleep(0.3)"], ids=["before any tick", "after some"])
@pytest.mark.parametrize(
    "end", ["", "trace.get_tracer_provider().force_flush(); sys.exit(3)"], ids=["returns", "exits"]
)
def test_an_sdk_set_up_after_us_still_gets_all_and_exit_hooks_still_release_first(tmp_path, receiver, pause, end):
    settings = {"SCAN_INTERVAL": "0.05"} if pause else NO_TICK
    source = _source(LATE.format(pause=pause, end=end))
    done = programs.run(tmp_path, source, receiver, under_agent=False, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (3 if end else 0, "", "")
    assert _told(receiver) == [DROPPED, KEPT]
    assert receiver.span("acquiring")
    assert _counted(receiver) == 2


def test_an_sdk_that_the_program_shut_down_itself_is_left_alone(tmp_path, receiver):
    end = """
for one in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
    one.shutdown()
"""
    done = programs.run(tmp_path, _source(LATE.format(pause="", end=end)), receiver, under_agent=False, **NO_TICK)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr
    assert "multiple times" not in done.stderr


# SIGTERM and handlers.

OWN = "signal.signal(signal.SIGTERM, lambda *_: (print('own', flush=True), sys.exit(7)))"
WAIT = "print('ready', flush=True); time.sleep(30)"


def _terminate(process, after="ready"):
    assert process.stdout.readline().strip() == after
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    return programs.finish(process), time.monotonic() - began


def test_a_sigterm_handler_installed_after_us_stays_in_charge(tmp_path, receiver):
    done, _ = _terminate(programs.start(tmp_path, _source(f"drop()\n{OWN}\n{WAIT}\n"), receiver, **NO_TICK))
    assert (done.returncode, done.stdout, done.stderr) == (7, "own\n", "")
    assert _told(receiver) == [DROPPED]


def test_a_sigterm_handler_installed_before_us_stays_in_charge(tmp_path, receiver):
    source = _source(
        f"{OWN}\nfrom crawlo_otel_leaks.instrumentation.files import FilesInstrumentor\n"
        f"mine = signal.getsignal(signal.SIGTERM)\nFilesInstrumentor().instrument()\n"
        f"assert signal.getsignal(signal.SIGTERM) is mine\n{WAIT}\n"
    )
    done, _ = _terminate(programs.start(tmp_path, source, receiver, under_agent=False, **NO_TICK))
    assert (done.returncode, done.stdout, done.stderr) == (7, "own\n", "")


def test_a_handler_that_calls_the_one_before_it_ends_as_it_would_by_default(tmp_path, receiver):
    body = f"old = signal.signal(signal.SIGTERM, lambda n, f: (print('own', flush=True), old(n, f)))\ndrop()\n{WAIT}\n"
    done, _ = _terminate(programs.start(tmp_path, _source(body), receiver, **NO_TICK))
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "own\n")
    assert _told(receiver) == [DROPPED]


def test_a_signal_that_the_program_ignores_stays_ignored(tmp_path, receiver):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), 15); print('alive')\n"
    done = programs.run(tmp_path, _source(body), receiver)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")


def test_uninstrument_gives_sigterm_its_default_back(tmp_path):
    body = """
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
FilesInstrumentor().instrument()
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
FilesInstrumentor().uninstrument()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
FilesInstrumentor().instrument()
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
"""
    done = programs.run(tmp_path, _source(body), under_agent=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def black_hole():
    """A collector that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        hole = HttpReceiver()
        hole.endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield hole


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_sigterm_waits_for_a_collector_that_does_not_answer_no_longer_than_the_limit(tmp_path, black_hole, protocol):
    black_hole.protocol = protocol
    body = f"with trace.get_tracer('app').start_as_current_span('s'): drop()\n{WAIT}\n"
    process = programs.start(tmp_path, _source(body), black_hole, REPORT="out.json", **NO_TICK)
    done, took = _terminate(process)
    assert done.returncode == -signal.SIGTERM
    assert took < exits.FLUSH + 3
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]


def test_sigterm_gets_out_while_the_main_thread_holds_the_ticks_lock(tmp_path, receiver):
    body = f"""
from crawlo_otel_leaks import runtime
running = runtime.current()
drop()
running._ticking_since = time.monotonic()
with running._tick:
    {WAIT}
"""
    process = programs.start(tmp_path, _source(body), receiver, REPORT="out.json", **NO_TICK)
    done, took = _terminate(process)
    assert done.returncode == -signal.SIGTERM
    assert took < exits.FLUSH + 3
    assert "an exporter hangs" in done.stderr
    assert (tmp_path / "out.json").exists()


# An exporter that hangs inside a tick.

HANGING = """
from crawlo_otel_leaks import runtime

class Hanging:
    def opened(self, leak, finding):
        print("hanging", flush=True)
        time.sleep({seconds})
    def resolved(self, leak, finding): pass
    def released(self, handles): pass

runtime.current().detector.sinks.append(Hanging())
drop()
time.sleep(0.5)
"""


def test_a_second_sigterm_does_not_cut_the_last_words_short(tmp_path, receiver):
    source = _source(HANGING.format(seconds=0.5) + WAIT)
    process = programs.start(tmp_path, source, receiver, REPORT="out.json", **NO_TICK)
    for line in ("ready\n", "hanging\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGTERM)
    assert programs.finish(process).returncode == -signal.SIGTERM
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]
    assert _told(receiver) == [DROPPED]


def test_an_exporter_that_hangs_in_a_tick_delays_the_exit_for_a_bounded_time(tmp_path, receiver):
    began = time.monotonic()
    done = programs.run(tmp_path, _source(HANGING.format(seconds=60) + "sys.exit(3)\n"), receiver, REPORT="out.json")
    assert (done.returncode, done.stdout) == (3, "hanging\n")
    assert time.monotonic() - began < 15
    assert "an exporter hangs" in done.stderr
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]


def test_an_exporter_that_hangs_in_a_tick_delays_no_fork_after_its_first_second(tmp_path, receiver):
    body = """
time.sleep(1)
began = time.monotonic()
for _ in range(5):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print(time.monotonic() - began < 1)
"""
    done = programs.run(tmp_path, _source(HANGING.format(seconds=60) + body), receiver)
    assert (done.returncode, done.stdout) == (0, "hanging\nTrue\n")


# Forks and children.


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
    done = programs.run(tmp_path, _source(body), receiver, REPORT="out.json", **NO_TICK)
    # From 3.12 on, Python warns of forking beside threads, of which the SDK has some too.
    assert (done.returncode, "Traceback" in done.stderr, "crawlo" in done.stderr) == (0, False, False)
    child = done.stdout.strip()
    assert _told(receiver) == [("childs.txt", "abandoned")]
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
    done = programs.run(tmp_path, source, receiver, REPORT="out.json", **NO_TICK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")
    assert _told(receiver) == [("childs.txt", "abandoned")]
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
    assert _told(receiver) == []


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
    done = programs.run(tmp_path, source, receiver, **NO_TICK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-15\n", "")
    assert _told(receiver) == [("childs.txt", "abandoned")]


def test_a_subprocess_never_overwrites_its_parents_report(tmp_path, receiver):
    (tmp_path / "child.py").write_text(_source("drop('childs.txt'); print(os.getpid())\n"))
    body = """
import subprocess
drop()
print(subprocess.run([sys.executable, 'child.py'], capture_output=True).stdout.decode())
"""
    done = programs.run(tmp_path, _source(body), receiver, REPORT="out.json", **NO_TICK)
    child = done.stdout.strip()
    assert (done.returncode, done.stderr) == (0, "")
    assert _reports(tmp_path) == sorted(["out.json", f"out.{child}.json"])
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]
    assert programs.leaks(tmp_path / f"out.{child}.json") == [("file", "abandoned", "childs.txt")]


def test_a_program_that_another_replaces_keeps_its_report_path(tmp_path, receiver):
    (tmp_path / "next.py").write_text(_source("drop()\n"))
    body = "os.execv(sys.executable, [sys.executable, 'next.py'])\n"
    done = programs.run(tmp_path, _source(body), receiver, REPORT="out.json", **NO_TICK)
    assert done.returncode == 0
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]


def test_os_exit_ends_at_once_and_says_nothing(tmp_path, receiver):
    began = time.monotonic()
    done = programs.run(tmp_path, _source("drop(); os._exit(6)\n"), receiver, REPORT="out.json", **NO_TICK)
    assert (done.returncode, done.stdout, done.stderr) == (6, "", "")
    assert time.monotonic() - began < 15
    assert _reports(tmp_path) == []


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
    done = programs.run(tmp_path, _source(LOCKED), receiver, SCAN_INTERVAL="0.01")
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
    done = programs.run(tmp_path, _source(FORKS), receiver, SCAN_INTERVAL="0.01", GRACE="0")
    assert (done.returncode, done.stdout) == (0, "{9}\n")


# Threads at exit.

WORKING = """
started = threading.Event()

def work():
    with open("daemons.txt", "w") as at_work:
        started.set()
        time.sleep(60)

threading.Thread(target=work, daemon=True).start()
started.wait()
"""


def test_a_daemon_thread_cut_off_at_work_is_not_accused(tmp_path, receiver):
    done = programs.run(tmp_path, _source(WORKING + "kept = open('kept.txt', 'w')\n"), receiver, **NO_TICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert _told(receiver) == [KEPT]


def test_an_exit_among_busy_threads_is_not_held_up(tmp_path, receiver):
    body = """
def spin():
    while True:
        sum(range(1000))

for _ in range(8):
    threading.Thread(target=spin, daemon=True).start()
drop()
sys.exit(3)
"""
    began = time.monotonic()
    done = programs.run(tmp_path, _source(body), receiver, REPORT="out.json")
    assert done.returncode == 3
    assert time.monotonic() - began < 30
    assert _told(receiver) == [DROPPED]


# What cannot be done is said, and changes nothing.

WRONG = {
    "ENABLED": "perhaps",
    "LEVEL": "loud",
    "THRESHOLDS": "file=never",
    "GRACE": "-1",
    "SCAN_INTERVAL": "0",
    "STACK_DEPTH": "1.5",
    "HOLD_SPANS": "files",
    "HOLD_MIN": "long",
    "LEAK_SPANS": "some",
    "REPORT": "report.pdf",
    "CAPTURE_PATHS": "maybe",
    "NO_SUCH_KNOB": "1",
}


def test_every_wrong_setting_is_refused_by_name_and_the_program_runs_with_the_defaults(tmp_path, receiver):
    source = _source("drop(); print('result'); sys.exit(3)\n")
    done = programs.run(tmp_path, source, receiver, **WRONG)
    assert (done.returncode, done.stdout) == (3, "result\n")
    assert _told(receiver) == [DROPPED]
    for name, value in WRONG.items():
        (line,) = [
            line for line in done.stderr.splitlines() if line.startswith(f"crawlo_otel_leaks: CRAWLO_OTEL_LEAKS_{name}")
        ]
        assert "expected" in line
        assert name == "NO_SUCH_KNOB" or repr(value) in line
    assert len(done.stderr.splitlines()) == len(WRONG)


@pytest.mark.parametrize("path", ["missing/out.json", "file/out.json", "directory.json", "/proc/out.json"])
def test_a_report_that_cannot_be_written_is_told_and_changes_nothing(tmp_path, receiver, path):
    (tmp_path / "file").touch()
    (tmp_path / "directory.json").mkdir()
    done = programs.run(tmp_path, _source("drop(); print('result'); sys.exit(3)\n"), receiver, REPORT=path, **NO_TICK)
    assert (done.returncode, done.stdout) == (3, "result\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"crawlo_otel_leaks: cannot write the report to {path}: ")
    assert _told(receiver) == [DROPPED]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("answers", ["refused", "silent"])
def test_an_unreachable_collector_changes_neither_result_nor_code_and_the_delay_is_bounded(
    tmp_path, black_hole, protocol, answers
):
    black_hole.protocol = protocol
    if answers == "refused":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            black_hole.endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    source = _source("with trace.get_tracer('app').start_as_current_span('s'): drop()\nprint('result'); sys.exit(3)\n")
    began = time.monotonic()
    done = programs.run(tmp_path, source, black_hole, OTEL_EXPORTER_OTLP_TIMEOUT="1", REPORT="out.json")
    assert (done.returncode, done.stdout) == (3, "result\n")
    assert time.monotonic() - began < 20  # three signals, a second each, and what the SDK adds
    assert "Failed to export" in done.stderr
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]


def test_a_child_pid_goes_into_the_report_path_before_the_suffix(monkeypatch):
    monkeypatch.delenv(exits.MAIN_PID, raising=False)
    assert exits.own_path("a/out.html") == "a/out.html"
    monkeypatch.setenv(exits.MAIN_PID, "1")
    monkeypatch.setattr("os.getpid", lambda: 42)
    assert exits.own_path("a/out.html") == "a/out.42.html"


def test_without_an_sdk_nothing_is_flushed_and_nothing_fails(tmp_path):
    command = "from crawlo_otel_leaks import exits; exits.flush(); print('flushed')"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert (done.stdout, done.stderr) == ("flushed\n", "")

"""However a process ends: what was found gets out, and its end is as it would be without us."""

from __future__ import annotations

import json
import time

import programs
import pytest
from receiver import HttpReceiver

DROPPED = ("dropped.txt", "abandoned")
KEPT = ("kept.txt", "process_exit")


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
    source = programs.source(f"drop(); kept = open('kept.txt', 'w'); print('result', flush=True)\n{ENDINGS[how]}\n")
    done = programs.run(tmp_path, source, receiver, REPORT="out.json", **programs.NO_TICK)
    without = programs.run(tmp_path, source, instrumented=False)
    assert (done.returncode, done.stdout, done.stderr) == (without.returncode, without.stdout, without.stderr)
    # Nobody accuses what a program holds that is killed at work.
    expected = [DROPPED] if "SIGTERM" in how else [DROPPED, KEPT]
    assert programs.told(receiver) == expected
    assert _counted(receiver) == len(expected)
    assert [(reason, name) for _, reason, name in programs.leaks(tmp_path / "out.json")] == [
        (reason, name) for name, reason in expected
    ]


@pytest.mark.parametrize("how", ENDINGS)
def test_a_clean_program_ends_without_a_word(tmp_path, receiver, how):
    source = programs.source(f"open('closed.txt', 'w').close()\n{ENDINGS[how]}\n")
    done = programs.run(tmp_path, source, receiver, REPORT="out.json", **programs.NO_TICK)
    assert done.returncode == programs.run(tmp_path, source, instrumented=False).returncode
    assert programs.told(receiver) == []
    assert json.loads((tmp_path / "out.json").read_text())["status"] == "healthy"


def test_what_the_programs_own_exit_hooks_release_is_no_leak(tmp_path, receiver):
    source = programs.source("kept = open('kept.txt', 'w'); atexit.register(kept.close); drop()\n")
    assert programs.run(tmp_path, source, receiver, **programs.NO_TICK).returncode == 0
    assert programs.told(receiver) == [DROPPED]


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
    settings = {"SCAN_INTERVAL": "0.05"} if pause else programs.NO_TICK
    source = programs.source(LATE.format(pause=pause, end=end))
    done = programs.run(tmp_path, source, receiver, under_agent=False, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (3 if end else 0, "", "")
    assert programs.told(receiver) == [DROPPED, KEPT]
    assert receiver.span("acquiring")
    assert _counted(receiver) == 2


def test_an_sdk_that_the_program_shut_down_itself_is_left_alone(tmp_path, receiver):
    end = """
for one in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
    one.shutdown()
"""
    done = programs.run(
        tmp_path, programs.source(LATE.format(pause="", end=end)), receiver, under_agent=False, **programs.NO_TICK
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr
    assert "multiple times" not in done.stderr


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
    done = programs.run(
        tmp_path, programs.source(WORKING + "kept = open('kept.txt', 'w')\n"), receiver, **programs.NO_TICK
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert programs.told(receiver) == [KEPT]


def test_an_exit_among_busy_threads_is_not_held_up(tmp_path, receiver):
    body = """
def spin():
    while True:
        sum(range(1000))

for _ in range(3):
    threading.Thread(target=spin, daemon=True).start()
drop()
sys.exit(3)
"""
    began = time.monotonic()
    done = programs.run(tmp_path, programs.source(body), receiver, REPORT="out.json", **programs.UNCOVERED)
    assert done.returncode == 3
    assert time.monotonic() - began < 60  # it ends; how soon is the scheduler's affair
    assert programs.told(receiver) == [DROPPED]


def test_os_exit_ends_at_once_and_says_nothing(tmp_path, receiver):
    began = time.monotonic()
    done = programs.run(
        tmp_path, programs.source("drop(); os._exit(6)\n"), receiver, REPORT="out.json", **programs.NO_TICK
    )
    assert (done.returncode, done.stdout, done.stderr) == (6, "", "")
    assert time.monotonic() - began < 15
    assert not list(tmp_path.glob("out*"))


def test_an_exporter_that_hangs_in_a_tick_delays_the_exit_for_a_bounded_time(tmp_path, receiver):
    began = time.monotonic()
    done = programs.run(
        tmp_path, programs.source(programs.HANGING.format(seconds=60) + "sys.exit(3)\n"), receiver, REPORT="out.json"
    )
    assert (done.returncode, done.stdout) == (3, "hanging\n")
    assert time.monotonic() - began < 15
    assert "an exporter hangs" in done.stderr
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]

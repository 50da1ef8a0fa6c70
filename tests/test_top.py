"""`crawlo-leaks top` beside real programs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
from test_cli import crawlo_leaks

from crawlo_otel_leaks import vitals

LEAKY = """
    import sys
    from opentelemetry import trace

    def job():
        with trace.get_tracer("app").start_as_current_span("job"):
            kept.append(open(__file__))

    def serve():
        global kept
        kept = []
        job(), job()
        print("ready", flush=True)
        sys.stdin.read()

    serve()
"""
CLEAN = """
    import sys
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def running(tmp_path):
    """Start a program, and end it with the test."""
    started = []

    def start(source, **settings):
        process = programs.start(tmp_path, source, stdin=subprocess.PIPE, **settings)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()
        process.stderr.close()


def once(process, *arguments):
    return crawlo_leaks("top", str(process.pid), "--once", *arguments)


def watch(process, *arguments):
    command = [Path(sys.executable).with_name("crawlo-leaks"), "top", str(process.pid), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_leaks(process):
    """Ask until the detector has judged."""
    for _ in range(100):
        done = once(process, "--json")
        if done.returncode == 1:
            return json.loads(done.stdout)
    pytest.fail(f"no leak was told: {done}")


def test_a_leaky_process_is_shown_with_its_lines_and_makes_the_exit_code_1(running):
    process = running(LEAKY)
    (row,) = [row for row in until_leaks(process)["rows"] if row["leak"]]
    assert (row["kind"], row["count"], row["verdict"]) == ("file", 2, "owner_finished")
    assert row["site"]["function"] == "job"
    # A snapshot that was taken while a busy machine imported something counts one too many, until the next.
    end = time.monotonic() + 2 * vitals.INTERVAL
    while "unattributed 0" not in (shown := once(process)).stdout and time.monotonic() < end:
        pass
    assert shown.returncode == 1
    for word in ("owner_finished", "file", "job", "unattributed 0"):
        assert word in " ".join(shown.stdout.split())


def test_a_clean_process_is_shown_and_makes_the_exit_code_0(running):
    done = once(running(CLEAN), "--sort", "age")
    assert (done.returncode, done.stderr) == (0, "")
    assert "holds nothing" in done.stdout


def test_its_own_socket_and_watcher_are_no_handles_of_the_program(running):
    process = running(CLEAN)
    told = [json.loads(once(process, "--json").stdout) for _ in range(2)]
    assert [(one["handles"], one["rows"]) for one in told] == [({}, [])] * 2


def test_it_goes_on_until_the_process_ends_and_says_so(running):
    process = running(CLEAN)
    watching = watch(process)
    while "holds" not in watching.stdout.readline():
        assert watching.poll() is None
    process.stdin.close()
    out, err = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert f"process {process.pid} has ended" in err
    assert "Traceback" not in out + err


def test_it_is_left_by_ctrl_c(running):
    process = running(CLEAN)
    watching = watch(process, "--json")
    first, second = json.loads(watching.stdout.readline()), json.loads(watching.stdout.readline())
    assert first["at"] < second["at"]
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert (watching.returncode, err) == (0, "")


def test_without_a_pid_it_lists_what_can_be_watched(running):
    process = running(CLEAN)
    done = crawlo_leaks("top")
    assert done.returncode == 0
    assert str(process.pid) in done.stdout


def test_a_process_that_is_not_instrumented_gets_a_clear_error(tmp_path):
    plain = programs.start(tmp_path, CLEAN, instrumented=False, stdin=subprocess.PIPE)
    done = once(plain)
    plain.communicate(timeout=20)
    assert done.returncode == 2
    assert f"process {plain.pid} (python" in done.stderr
    assert "is not instrumented" in done.stderr
    assert "expected a program started by `opentelemetry-instrument python app.py`" in done.stderr


def test_the_setting_top_switches_it_off(running):
    done = once(running(CLEAN, TOP="false"))
    assert done.returncode == 2
    assert "CRAWLO_OTEL_LEAKS_TOP on" in done.stderr


def test_no_such_process_and_no_number_are_refused():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = crawlo_leaks("top", str(gone.pid))
    assert (done.returncode, done.stderr.startswith(f"crawlo-leaks: there is no process {gone.pid}")) == (2, True)
    assert crawlo_leaks("top", "x").returncode == 2

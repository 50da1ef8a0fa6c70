"""What cannot be done is said, and changes nothing of the program."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import programs
import pytest
import receiver as receivers
from receiver import HttpReceiver

from crawlo_otel_leaks import exits

DROPPED = ("dropped.txt", "abandoned")


@pytest.fixture
def receiver():
    with HttpReceiver() as started:
        yield started


@pytest.fixture
def black_hole():
    with receivers.black_hole() as hole:
        yield hole


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
    source = programs.source("drop(); print('result'); sys.exit(3)\n")
    done = programs.run(tmp_path, source, receiver, **WRONG)
    assert (done.returncode, done.stdout) == (3, "result\n")
    assert programs.told(receiver) == [DROPPED]
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
    done = programs.run(
        tmp_path, programs.source("drop(); print('result'); sys.exit(3)\n"), receiver, REPORT=path, **programs.NO_TICK
    )
    assert (done.returncode, done.stdout) == (3, "result\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"crawlo_otel_leaks: cannot write the report to {path}: ")
    assert programs.told(receiver) == [DROPPED]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("answers", ["refused", "silent"])
def test_an_unreachable_collector_changes_neither_result_nor_code_and_the_delay_is_bounded(
    tmp_path, black_hole, protocol, answers
):
    black_hole.protocol = protocol
    if answers == "refused":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            black_hole.endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    source = programs.source(
        "with trace.get_tracer('app').start_as_current_span('s'): drop()\nprint('result'); sys.exit(3)\n"
    )
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

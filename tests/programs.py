"""Runs real programs under the real opentelemetry-instrument, or without it for comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from receiver import GrpcReceiver, HttpReceiver

TIMEOUT = 60.0
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
# A program has 10 s of grace in none of these tests, and needs no ticks unless it asks for them.
_QUICK = {"GRACE": "0.05", "SCAN_INTERVAL": "0.05"}

_NAMES = [one.name for one in entry_points(group="opentelemetry_instrumentor")]
# Contrib takes half a second to import, and some of it writes to stderr what it does not support.
_CONTRIB = ", ".join(name for name in _NAMES if "crawlo_leaks" not in name)
FILES_ALONE = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ", ".join(n for n in _NAMES if n != "crawlo_leaks_files")}
"""For what comes after our files in the loader's order, it reads files that the numbers would show."""
UNCOVERED = {"COVERAGE_PROCESS_CONFIG": ""}
"""For programs that show nothing new of what is covered: coverage doubles their time."""


def environment(receiver: GrpcReceiver | HttpReceiver | None, **settings: str) -> dict[str, str]:
    """The environment of a program; what is neither OTEL's nor COVERAGE's is a setting of ours."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CRAWLO_", "_CRAWLO"))}
    otel = {
        "OTEL_SERVICE_NAME": "leaky-app",
        "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol if receiver else "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint if receiver else "http://127.0.0.1:9",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": _CONTRIB,
    }
    if receiver is None:
        otel.update(dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none"))
    chosen = {**_QUICK, **settings}
    others = ("OTEL_", "COVERAGE_")
    named = {key if key.startswith(others) else f"CRAWLO_OTEL_LEAKS_{key}": value for key, value in chosen.items()}
    return {**clean, **otel, **named}


def start(  # noqa: PLR0913  (as `run`)
    where: Path,
    source: str,
    receiver: GrpcReceiver | HttpReceiver | None = None,
    *,
    instrumented: bool = True,
    under_agent: bool = True,
    stdin: int | None = None,
    **settings: str,
) -> subprocess.Popen[str]:
    """Start a program, its source indented as it likes; without the agent it instruments itself."""
    program = where / "app.py"
    program.write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, str(program)]
    return subprocess.Popen(
        [INSTRUMENT, *command] if instrumented and under_agent else command,
        cwd=where,
        env=environment(receiver, **settings),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
    """Wait for its end; one that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(  # noqa: PLR0913  (a program, and how it is run)
    where: Path,
    source: str,
    receiver: GrpcReceiver | HttpReceiver | None = None,
    *,
    instrumented: bool = True,
    under_agent: bool = True,
    timeout: float = TIMEOUT,
    **settings: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    process = start(where, source, receiver, instrumented=instrumented, under_agent=under_agent, **settings)
    return finish(process, timeout)


def leaks(report: Path) -> list[tuple[str, str, str]]:
    """Kind, reason and base name of each leak in a JSON report."""
    data: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return [(leak["kind"], leak["reason"], Path(leak["name"]).name) for leak in data["leaks"]]


PREAMBLE = """
import atexit, os, signal, sys, threading, time
from opentelemetry import trace

def drop(name="dropped.txt"):
    left = open(name, "w")

"""

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

NO_TICK = {"SCAN_INTERVAL": "60"}
"""No tick comes before the end: all that is told is told by the exit."""


def source(body: str) -> str:
    """A program with imports, and `drop(name)`, which leaves a file to the collector."""
    return PREAMBLE + body


def told(receiver: HttpReceiver) -> list[tuple[str, str]]:
    """Name and reason of each leak that arrived, on which spans and events must agree."""
    spans, events = (
        sorted((one.attributes[semconv.HANDLE_NAME], one.attributes[semconv.LEAK_REASON]) for one in items)
        for items in (receiver.spans("leak "), receiver.events(semconv.LEAK_DETECTED))
    )
    assert spans == events
    return spans

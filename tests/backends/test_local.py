"""On a laptop: one collector shows the leaks, and writes what crawlo-leaks report ranks."""

from __future__ import annotations

import json
import socket
import sys

import pytest
import stack

from crawlo_otel_leaks import cli

sys.path.append(str(stack.HERE.parent))
import programs

pytest_plugins = ["running_stack"]
pytestmark = pytest.mark.backends

SOURCE = """
    from opentelemetry import trace
    def drop(number):
        left = open(f"{number}.txt", "w")
    with trace.get_tracer("app").start_as_current_span("page"):
        for number in range({leaks}):
            drop(number)
"""


def _listens(collector):
    host, port = collector.grpc.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def test_the_local_collector_shows_leaks_and_writes_what_is_ranked(running, tmp_path_factory, capsys):
    collector = running(stack.Collector, "local", "local.yaml")
    stack.wait(lambda: _listens(collector), 30, "the collector")
    for leaks in (1, 3):
        where = tmp_path_factory.mktemp("app")
        done = programs.run(where, SOURCE.replace("{leaks}", str(leaks)), collector.endpoint)
        assert (done.returncode, done.stderr) == (0, "")
    collector.stop()  # which writes what it has

    assert cli.main(["report", str(collector.telemetry)]) == 1
    assert "LEAKS: 1 fingerprint in 2 processes on 1 host, 4 handles" in capsys.readouterr().out
    signals = {key for line in collector.telemetry.read_text().splitlines() for key in json.loads(line)}
    assert signals == {"resourceSpans", "resourceLogs", "resourceMetrics"}
    shown = collector.log.read_text()
    assert "Name           : leak file" in shown
    assert "Name           : page" not in shown
    assert "crawlo.leak.detected" in shown

"""A program that leaks is told by the real Prometheus' alerts; its clean twin is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import stack

sys.path.append(str(stack.HERE.parent))
import programs

pytest_plugins = ["running_stack"]
pytestmark = pytest.mark.backends

# Twenty files whose owner ends, kept.
LEAKY = """
    import time
    from opentelemetry import trace
    kept = []
    def take(number):
        with trace.get_tracer("app").start_as_current_span("job"):
            kept.append(open(f"{number}.txt", "w"))
    for number in range(20):
        take(number)
    time.sleep(600)
"""
CLEAN = """
    import time
    for number in range(3000):
        with open("held.txt", "w"):
            time.sleep(0.2)
"""


class Watched(NamedTuple):
    """What stands by while programs run."""

    prometheus: stack.Prometheus
    agent: stack.Collector


@pytest.fixture(scope="module")
def watched(running):
    gateway = running(stack.Collector, "gateway", "gateway.yaml")
    prometheus = running(stack.Prometheus, gateway)
    return Watched(prometheus, running(stack.Collector, "agent", "agent.yaml", GATEWAY=gateway.grpc))


@contextmanager
def _program(where, source, service, watched, **settings):
    (where / "app.py").write_text(textwrap.dedent(source))
    quick = {"OTEL_SERVICE_NAME": service, "OTEL_METRIC_EXPORT_INTERVAL": "500", "GRACE": "0.5", **settings}
    command = [programs.INSTRUMENT, sys.executable, str(where / "app.py")]
    process = subprocess.Popen(command, cwd=where, env=programs.environment(watched.agent.endpoint, **quick))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _firing(watched, service):
    alerts = watched.prometheus.alerts()
    return {
        one["labels"]["alertname"] for one in alerts if one["labels"].get("job") == service and one["state"] == "firing"
    }


def test_a_leaky_program_is_told_and_its_clean_twin_is_not(watched, tmp_path):
    folders = tmp_path / "leaky", tmp_path / "clean"
    for folder in folders:
        folder.mkdir()
    with _program(folders[0], LEAKY, "leaky", watched), _program(folders[1], CLEAN, "clean", watched):
        stack.wait(lambda: _firing(watched, "leaky") >= {"LeakOpen", "NewLeak"}, 60, "the alert")
        stack.wait(lambda: watched.prometheus.query('crawlo_handle_count{job="clean"}'), 30, "the clean twin's metrics")
        assert _firing(watched, "clean") == set()
    (leak,) = watched.prometheus.query('sum by (job) (crawlo_leak_open{job="leaky"})')
    assert int(leak["value"][1]) >= 20

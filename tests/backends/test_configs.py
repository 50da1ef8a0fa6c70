"""Every configuration is one that its program takes."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import stack

from crawlo_otel_leaks import semconv

pytestmark = pytest.mark.backends

STACKED = [
    ("local.yaml",),
    ("agent.yaml",),
    ("agent.yaml", "sharded.yaml"),
    ("gateway.yaml",),
    ("gateway.yaml", "zipkin.yaml"),
]


@pytest.fixture(autouse=True)
def built():
    if lacking := stack.missing():
        pytest.skip(lacking)


def _run(*command):
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=stack.CONFIG, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("configs", STACKED, ids="+".join)
def test_the_collector_takes_it(configs):
    arguments = [argument for config in configs for argument in ("--config", config)]
    assert _run(stack.OTELCOL, "validate", *arguments) == (0, "")


def test_no_collector_configuration_is_left_out():
    others = {"jaeger.yaml", "alerts.yaml", "alerts.test.yaml", "compose.yaml"}
    assert {path.name for path in stack.CONFIG.glob("*.yaml")} - others == {name for one in STACKED for name in one}


def test_jaeger_takes_it():
    code, said = _run(stack.JAEGER, "validate", "--config", "jaeger.yaml")
    assert code == 0, said


def test_prometheus_takes_its_configuration_and_each_alert_fires_when_it_should():
    for command in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yaml")):
        code, said = _run("promtool", *command)
        assert code == 0, said


def test_each_alert_has_a_test_that_it_fires():
    alerts = set(re.findall(r"- alert: (\w+)", (stack.CONFIG / "alerts.yaml").read_text()))
    tested = set(
        re.findall(
            r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", (stack.CONFIG / "alerts.test.yaml").read_text()
        )
    )
    assert tested == alerts


def test_the_dashboard_asks_only_for_metrics_that_there_are():
    dashboard = json.loads((stack.CONFIG / "grafana" / "dashboard.json").read_text())
    asked = {name for target in _targets(dashboard) for name in re.findall(r"\b(?:crawlo|db_client)_\w+", target)}
    bare = {
        re.sub(r"_(total|seconds|ratio|bucket)$", "", name) for name in asked - LABELS - {"crawlo_leak_spans_total"}
    }
    assert len(bare) > 10
    assert bare <= {value.replace(".", "_") for name, value in vars(semconv).items() if name.startswith("METRIC_")}


LABELS = {
    "crawlo_handle_kind",
    "crawlo_leak_fingerprint",
    "crawlo_leak_reason",
    "db_client_connection_pool_name",
    "db_client_connection_state",
}


def _targets(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

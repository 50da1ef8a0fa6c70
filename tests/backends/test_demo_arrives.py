"""The demo's leaks, from the process over agent and gateway into each backend, as the backends' own APIs tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import stack

from crawlo_otel_leaks import cli, semconv

pytest_plugins = ["running_stack"]
pytestmark = pytest.mark.backends

SERVICE = "demo"
BOTH = "yaml:service::pipelines::traces/{}::exporters: [otlp_grpc/traces, zipkin{}]"
LABELS = {
    "__name__",
    "job",
    "instance",
    "service_name",
    "service_instance_id",
    "host_name",
    "crawlo_handle_kind",
    "crawlo_leak_fingerprint",
    "crawlo_leak_reason",
    "db_client_connection_pool_name",
    "db_client_connection_state",
    "le",
}
# What the gateway's own count has besides: the place, the same for a fingerprint, and which gateway counted.
OF_THE_GATEWAY = {"code_function_name", "code_file_path", "signal_to_metrics_service_instance_id"}


class Arrived(NamedTuple):
    """Where the demo's telemetry went, and what its own report says."""

    jaeger: stack.Jaeger
    zipkin: stack.Zipkin
    prometheus: stack.Prometheus
    gateway: stack.Collector
    report: dict

    @property
    def entries(self):
        return [leak for leak in self.report["leaks"] if leak["trace_id"] and leak["reason"] != "slow"]


@pytest.fixture(scope="module")
def arrived(running, tmp_path_factory):
    jaeger, zipkin = running(stack.Jaeger), running(stack.Zipkin)
    gateway = running(
        stack.Collector,
        "gateway",
        "gateway.yaml",
        "zipkin.yaml",
        BOTH.format("leaks", ", signal_to_metrics"),
        BOTH.format("others", ""),
        TRACES=jaeger.otlp,
        ZIPKIN=zipkin.spans,
        DECISION_WAIT="8s",
        SAMPLING_PERCENTAGE="0",
    )
    prometheus = running(stack.Prometheus, gateway)
    agent = running(stack.Collector, "agent", "agent.yaml", GATEWAY=gateway.grpc)
    report = tmp_path_factory.mktemp("demo") / "demo.json"
    _demo(agent, report)
    found = Arrived(jaeger, zipkin, prometheus, gateway, json.loads(report.read_text()))
    stack.wait(lambda: jaeger.traces(SERVICE, "crawl page"), 60, "the traces around the leaks")
    return found


def _demo(agent, report):
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": SERVICE,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{agent.grpc}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_TRACES_SAMPLER": "always_on",
    }
    command = [str(Path(sys.executable).with_name("crawlo-leaks")), "demo", "--report", str(report)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def _tags(span):
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def test_in_jaeger_each_leak_sits_below_the_span_that_acquired_it_with_its_stack(arrived):
    assert len(arrived.entries) >= 5
    for leak in arrived.entries:
        trace = arrived.jaeger.trace(leak["trace_id"])
        spans = {span["spanID"]: span for span in trace["spans"]}
        parent = spans[leak["span_id"]]
        assert not parent["operationName"].startswith("leak ")
        below = [
            _tags(span)
            for span in spans.values()
            if span["operationName"] == f"leak {leak['kind']}"
            and [(one["refType"], one["spanID"]) for one in span["references"]] == [("CHILD_OF", leak["span_id"])]
        ]
        matching = [tags for tags in below if tags[semconv.LEAK_FINGERPRINT] == leak["fingerprint"]]
        assert matching, leak
        tags = matching[0]
        assert tags["error"] is True
        assert tags[semconv.CODE_FUNCTION_NAME] == leak["site"]["function"]
        assert leak["site"]["text"] in tags[semconv.CODE_STACKTRACE]
        assert tags[semconv.CODE_FILE_PATH] in tags[semconv.CODE_STACKTRACE]


def test_in_jaeger_each_span_is_there_once_though_leaks_pass_by_the_sampler(arrived):
    spans = Counter(span["spanID"] for trace in arrived.jaeger.traces(SERVICE) for span in trace["spans"])
    assert set(spans.values()) == {1}


def _zipkin_trace(arrived, trace_id):
    return stack.wait(lambda: stack.fetch(f"{arrived.zipkin.base}/api/v2/trace/{trace_id}"), 20, "the trace in Zipkin")


def test_in_zipkin_each_leak_sits_below_the_span_that_acquired_it_with_its_stack(arrived):
    for leak in arrived.entries:
        spans = _zipkin_trace(arrived, leak["trace_id"])
        assert leak["span_id"] in {span["id"] for span in spans}
        below = [
            span for span in spans if span.get("parentId") == leak["span_id"] and span["name"] == f"leak {leak['kind']}"
        ]
        tags = [span["tags"] for span in below if span["tags"][semconv.LEAK_FINGERPRINT] == leak["fingerprint"]]
        assert tags, leak
        assert leak["site"]["text"] in tags[0][semconv.CODE_STACKTRACE]
        assert "error" in tags[0]


def test_in_prometheus_the_series_are_there_and_bounded(arrived):
    series = stack.wait(
        lambda: arrived.prometheus.query('{__name__=~"crawlo_.+|db_client_connection.+",job="demo"}'), 20
    )
    labels = {label for one in series for label in one["metric"]} - LABELS
    assert labels == OF_THE_GATEWAY, "no ids, no stacks: a label more is a series more"
    names = Counter(one["metric"]["__name__"] for one in series)
    kinds = len(semconv.KINDS)
    assert names["crawlo_leak_open"] == names["crawlo_handle_count"] == names["crawlo_handle_age_max_seconds"] == kinds
    findings = {(leak["fingerprint"], leak["reason"]) for leak in arrived.report["leaks"] if leak["reason"] != "slow"}
    counted = arrived.prometheus.query('crawlo_leak_count_total{job="demo"}')
    assert {
        (one["metric"]["crawlo_leak_fingerprint"], one["metric"]["crawlo_leak_reason"]) for one in counted
    } >= findings
    for name in (
        "crawlo_tracker_bytes",
        "crawlo_tracker_errors",
        "crawlo_fd_unattributed",
        "db_client_connection_count",
    ):
        assert names[name], name
    assert arrived.prometheus.query('crawlo_tracker_errors{job="demo"}')[0]["value"][1] == "0"


def test_in_prometheus_the_gateway_has_counted_each_leak_span_by_fingerprint(arrived):
    spans = Counter(
        _tags(span)[semconv.LEAK_FINGERPRINT]
        for trace in arrived.jaeger.traces(SERVICE)
        for span in trace["spans"]
        if span["operationName"].startswith("leak ")
    )

    def counted():
        by = "sum by (crawlo_leak_fingerprint) (crawlo_leak_spans_total)"
        return {one["metric"]["crawlo_leak_fingerprint"]: int(one["value"][1]) for one in arrived.prometheus.query(by)}

    assert spans
    stack.wait(lambda: counted() == dict(spans), 20, "the gateway's count")


def test_in_prometheus_each_query_of_the_dashboard_has_an_answer(arrived):
    panels = json.loads((stack.CONFIG / "grafana" / "dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(asked) >= len(panels) > 10
    for expression in asked:
        plain = expression.replace("$job", ".*").replace("$instance", ".*")
        answered = arrived.prometheus.query(plain)
        # The demo loses connections for too short a time to tell when a pool or the descriptors will be out.
        assert answered or "exhaustion_eta" in plain, plain


def test_the_events_file_ranks_as_the_report_says(arrived, capsys, tmp_path):
    written = tmp_path / "fleet.json"
    assert cli.main(["report", str(arrived.gateway.events), "--report", str(written)]) == 1
    fleet = json.loads(written.read_text())
    told = {one["fingerprint"]: one for one in fleet["fingerprints"]}
    assert (fleet["processes"], fleet["hosts"], fleet["unread"]) == (1, 1, [])
    assert told.keys() == {leak["fingerprint"] for leak in arrived.report["leaks"] if leak["reason"] != "slow"}
    assert "in 1 process on 1 host" in capsys.readouterr().out


def test_the_gateway_has_nothing_to_complain_of(arrived):
    lines = arrived.gateway.log.read_text().splitlines()
    assert [line for line in lines if "\terror\t" in line or "\twarn\t" in line] == []

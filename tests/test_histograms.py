"""Many values at once are the same as one by one, whatever the SDK keeps of them."""

from __future__ import annotations

import random

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExponentialBucketHistogramAggregation, View

from crawlo_otel_leaks.durations import Batch
from crawlo_otel_leaks.emitters import histograms
from crawlo_otel_leaks.emitters.metrics import BOUNDARIES

DELTA = {Histogram: AggregationTemporality.DELTA}
VALUES = [random.Random(7).expovariate(1.0) for _ in range(500)]


def points(*readers):
    """Everything that each reader gets, without times and exemplars, which differ."""
    return [sorted((str(point.attributes), *figures(point)) for point in data_points(reader)) for reader in readers]


def data_points(reader):
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]


def figures(point):
    counts = getattr(point, "bucket_counts", None) or (point.positive.bucket_counts, point.scale)
    return point.count, pytest.approx(point.sum), counts, point.min, point.max


def at_once(histogram, values, attributes):
    histograms.record(histogram, Batch(values), attributes)


def one_by_one(histogram, values, attributes):
    for value in values:
        histogram.record(value, attributes)


@pytest.fixture(
    params=[
        [],
        [View(instrument_name="held", attribute_keys=set())],
        [View(instrument_name="held", aggregation=ExponentialBucketHistogramAggregation())],
        [View(instrument_name="held", aggregation=DropAggregation()), View(instrument_name="held", name="kept")],
    ],
    ids=["as it comes", "without attributes", "exponential", "dropped and kept"],
)
def views(request):
    return request.param


@pytest.mark.parametrize("preferred", [None, DELTA], ids=["cumulative", "delta"])
def test_all_readers_see_what_they_would_have_seen(views, preferred):
    seen = []
    for way in (one_by_one, at_once):
        readers = [InMemoryMetricReader(preferred), InMemoryMetricReader()]
        meter = MeterProvider(readers, views=views).get_meter("tests")
        histogram = meter.create_histogram("held", explicit_bucket_boundaries_advisory=BOUNDARIES)
        collected = []
        for part in (VALUES[:3], VALUES[3:200], VALUES[200:]):
            way(histogram, part, {"kind": "file"})
            way(histogram, part[:20], {"kind": "socket"})
            collected.append(points(*readers))
        seen.append(collected)
    assert seen[0] == seen[1]
    assert any(seen[0])


def test_the_sdk_that_is_installed_is_added_to_at_once(monkeypatch):
    """Else everything would be right still, but slow."""
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("tests")
    histogram = meter.create_histogram("held")
    recorded, real = [], type(histogram).record

    def count(self, *args):
        recorded.append(args)
        real(self, *args)

    monkeypatch.setattr(type(histogram), "record", count)
    histograms.record(histogram, Batch(VALUES), {"kind": "file"})
    assert len(recorded) == histograms.FIRST


def test_a_histogram_made_before_there_was_a_provider_is_added_to_at_once(telemetry, monkeypatch):
    histogram = metrics._internal._ProxyMeter("crawlo_otel_leaks.tests", None, None).create_histogram("held")
    histograms.record(histogram, Batch(VALUES), {"kind": "file"})  # nowhere: there is no provider yet
    histogram.on_meter_set(metrics.get_meter("crawlo_otel_leaks.tests"))
    histograms.record(histogram, Batch(VALUES), {"kind": "file"})
    (point,) = telemetry.metrics("crawlo_otel_leaks.tests")["held"]
    assert point.count == len(VALUES)


def test_another_kind_of_sdk_gets_them_one_by_one():
    class Other:
        def __init__(self):
            self.values = []

        def record(self, value, attributes):
            self.values.append(value)

    other = Other()
    histograms.record(other, Batch(VALUES), {})
    assert sorted(other.values) == sorted(VALUES)


def test_a_reader_that_came_later_is_no_reason_to_fail():
    first, late = InMemoryMetricReader(), InMemoryMetricReader()
    provider = MeterProvider([first])
    histogram = provider.get_meter("tests").create_histogram("held")
    histograms.record(histogram, Batch(VALUES), {})
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this SDK takes no readers later")
    provider.add_metric_reader(late)
    histograms.record(histogram, Batch(VALUES), {})
    assert [[point.count for point in data_points(reader)] for reader in (first, late)] == [[1000], [500]]

"""redis-py beside its own observability, beside contrib's instrumentation, and in forked children."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib

import programs
import pytest
from redis_clients import LEAKED

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation.redis import RedisInstrumentor

pytest_plugins = ["redis_clients"]


class TestObservability:
    """redis-py 7.1 and newer emits some of the metrics itself, once it is told to."""

    @pytest.fixture
    def switch_on(self):
        observability = pytest.importorskip("redis.observability", reason="this release emits nothing")

        def on(*groups):
            chosen = [observability.MetricGroup[group] for group in groups]
            observability.get_observability_instance().init(observability.OTelConfig(metric_groups=chosen))

        # Its pools emit from their finalizers, which deadlocks where the collector comes while the SDK collects.
        gc.disable()
        yield on
        observability.reset_observability_instance()
        for name in ("redis.observability.recorder", "redis.asyncio.observability.recorder"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name).reset_collector()
        gc.enable()

    @pytest.mark.parametrize("package", ["redis"], indirect=True)
    def test_what_it_emits_is_left_to_it_from_then_on(self, rig, package, where, switch_on):
        client = package.client(where)
        client.get("key")
        rig.runtime.tick()
        (known,) = rig.runtime.pools
        assert known.silent == frozenset()
        switch_on("CONNECTION_BASIC")
        client.get("key")
        rig.runtime.tick()
        assert known.silent >= {semconv.METRIC_POOL_CREATE_TIME}
        assert semconv.METRIC_POOL_WAIT_TIME not in known.silent
        client.close()

    @pytest.mark.parametrize("package", ["redis"], indirect=True)
    def test_no_metric_comes_from_both(self, rig, package, where, switch_on, telemetry):
        switch_on("CONNECTION_BASIC", "CONNECTION_ADVANCED", "RESILIENCY")
        before = _counts(telemetry)
        client = package.client(connection_pool=package.module.BlockingConnectionPool(max_connections=3, **where))
        for _ in range(3):
            client.get("key")
        rig.pass_time(1)
        after = _counts(telemetry)
        theirs = {name for scope, name in after if scope.startswith("redis")} & semconv.POOL_METRICS
        assert theirs >= {semconv.METRIC_POOL_CREATE_TIME, semconv.METRIC_POOL_WAIT_TIME}
        for name in theirs:
            assert after.get((semconv.SCOPE, name)) == before.get((semconv.SCOPE, name))
        assert after[semconv.SCOPE, semconv.METRIC_POOL_MAX]
        client.close()


def _counts(telemetry):
    """How often each metric of each scope was recorded: the number of a histogram, or of points."""
    data = telemetry._reader.get_metrics_data()
    return {
        (scope.scope.name, metric.name): [getattr(point, "count", 1) for point in metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def _contrib():
    pytest.importorskip("redis")
    return importlib.import_module("opentelemetry.instrumentation.redis").RedisInstrumentor()


class TestBesideContrib:
    @pytest.fixture(params=["contrib first", "contrib last"])
    def beside(self, request, rig):
        both = [_contrib(), RedisInstrumentor()]
        for one in both if request.param == "contrib first" else reversed(both):
            one.instrument()
        rig.runtime.tick()
        yield importlib.import_module("redis")
        for one in both:
            if one.is_instrumented_by_opentelemetry:
                one.uninstrument()

    def test_a_leak_belongs_to_the_span_around_contribs(self, rig, beside, where, tracer):
        client = beside.Redis(**where)

        def work():
            pipe = client.pipeline()
            pipe.watch("key")
            pipe.get("key")
            return pipe

        with tracer.start_as_current_span("job") as job:
            kept = work()
            rig.pass_time(15, steps=15)
            assert rig.verdicts == [], "the span WATCH has ended, the job has not"
        rig.pass_time(12, steps=12)
        assert rig.verdicts == [LEAKED]
        assert rig.recorder.opened_leaks[0].owner.span == job.get_span_context()
        kept.reset()
        client.close()

    def test_an_async_leak_does_so_too(self, rig, beside, where, tracer):
        async def work(client):
            with tracer.start_as_current_span("job") as job:
                pipe = client.pipeline()
                await pipe.watch("key")
                await pipe.get("key")
                return pipe, job

        async def main():
            client = beside.asyncio.Redis(**where)
            pipe, job = await asyncio.create_task(work(client))
            rig.settle()
            assert rig.verdicts == [LEAKED]
            assert rig.recorder.opened_leaks[0].owner.span == job.get_span_context()
            await pipe.reset()
            await client.aclose()

        asyncio.run(main())

    def test_the_waiters_own_span_is_told(self, beside, where, tracer):
        client = beside.Redis(connection_pool=beside.ConnectionPool(max_connections=1, **where))
        kept = client.pubsub()
        kept.subscribe("news")
        with tracer.start_as_current_span("waiter") as waiter, pytest.raises(beside.ConnectionError) as caught:
            client.get("key")
        assert len(caught.value.__notes__) == 1
        assert [event.name for event in waiter.events][:1] == ["crawlo.pool.exhausted"]
        kept.close()
        client.close()

    @pytest.mark.parametrize("ours_first", [True, False])
    def test_each_is_undone_whichever_goes_first(self, rig, beside, where, telemetry, ours_first):
        both = [RedisInstrumentor(), _contrib()]
        for one in both if ours_first else reversed(both):
            one.uninstrument()
        client = beside.Redis(**where)
        client.get("key")
        assert telemetry.spans("GET") == []
        assert list(rig.runtime.pools) == []
        client.close()


@pytest.fixture
def unmeasured(monkeypatch):
    """Coverage forks badly beside busy threads: a child inherits its lock as it is."""
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


FORKING = """
import redis

def take():
    pubsub = client.pubsub()
    pubsub.subscribe("news")
    return pubsub

client = redis.Redis(host="{host}", port={port})
with trace.get_tracer("app").start_as_current_span("job"):
    parents = take()
adopt(parents)
pid = os.fork()
if not pid:
    client.set("child", 1)
    parents.close()
    with trace.get_tracer("app").start_as_current_span("in child"):
        childs = take()
    print(os.getpid(), flush=True)
    time.sleep(1)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert parents.get_message()["type"] == "subscribe"
parents.close()
"""


@pytest.mark.usefixtures("unmeasured")
def test_a_forked_child_holds_its_own_connections_and_not_its_parents(tmp_path, where):
    pytest.importorskip("redis")
    source = programs.source("from crawlo_otel_leaks import adopt\n" + FORKING.format(**where))
    everything = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ""}
    done = programs.run(tmp_path, source, REPORT="out.json", **everything)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert programs.leaks(tmp_path / "out.json") == []
    name = "{host}:{port}/0".format(**where).rpartition("/")[2]
    assert programs.leaks(tmp_path / f"out.{done.stdout.strip()}.json") == [(*LEAKED, name)]

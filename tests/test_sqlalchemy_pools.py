"""SQLAlchemy's pools as a whole: who waits in vain, what they are called, their metrics, and contrib beside."""

from __future__ import annotations

import threading

import pytest
import servers
import sqlalchemy
from conftest import GRACE, SCAN
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import pool, text

from crawlo_otel_leaks.instrumentation.sqlalchemy import SqlAlchemyInstrumentor
from crawlo_otel_leaks.settings import Settings

NEW = not sqlalchemy.__version__.startswith("1.")
SELECT = text("select 1")


@pytest.fixture
def watched(rig):
    instrumentor = SqlAlchemyInstrumentor()
    instrumentor.instrument()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.fixture
def address():
    return sqlalchemy.engine.make_url(servers.postgres()).set(drivername=f"postgresql+psycopg{'' if NEW else '2'}")


@pytest.fixture
def place(address):
    return f"{address.host}:{address.port}/{address.database}"


@pytest.fixture
def small(watched, address):
    made = sqlalchemy.create_engine(address, pool_size=1, max_overflow=1, pool_timeout=0.05)
    yield made
    made.dispose()


def hoard(engine, tracer, count=2):
    with tracer.start_as_current_span("hoarder") as hoarder:
        return [engine.connect() for _ in range(count)], hoarder


def names(rig):
    return [one.name for one in rig.runtime.pools]


def test_the_waiter_in_vain_is_told_who_holds_and_its_exception_is_the_pools_own(rig, small, place, tracer, telemetry):
    kept, hoarder = hoard(small, tracer)
    rig.clock.advance(312)
    with (
        tracer.start_as_current_span("waiter") as waiter,
        pytest.raises(sqlalchemy.exc.TimeoutError, match="QueuePool limit of size 1 overflow 1 reached") as caught,
    ):
        small.connect()
    (note,) = caught.value.__notes__
    assert note.startswith(f"2 of 2 connections of pool {place} held: 2 since up to 312 s by ")
    assert "test_sqlalchemy_pools.py:" in note
    assert "hoard (owner finished)" in note
    (event,) = [event for event in waiter.events if event.name == "crawlo.pool.exhausted"]
    assert event.attributes["crawlo.pool.limit"] == 2
    assert [link.context for link in waiter.links] == [hoarder.get_span_context()]
    rig.runtime.tick()
    (record,) = telemetry.events("crawlo.pool.exhausted")
    assert record.trace_id == waiter.get_span_context().trace_id
    assert [one.timeouts for one in rig.runtime.pools] == [1]
    for connection in kept:
        connection.close()
    with small.connect():
        assert len(rig.held) == 1
    assert rig.held == []


def test_an_assertion_pool_tells_who_has_its_only_one(rig, watched, tracer):
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.AssertionPool)
    (kept,), _ = hoard(engine, tracer, count=1)
    with pytest.raises(AssertionError, match="connection is already checked out") as caught:
        engine.connect()
    assert caught.value.__notes__[0].startswith("1 of 1 connections of pool :memory: held: 1 since ")
    kept.close()


def test_a_servers_failure_gets_no_note(rig, watched, address):
    engine = sqlalchemy.create_engine(address.set(database="nowhere"))
    with pytest.raises(sqlalchemy.exc.OperationalError, match="nowhere") as caught:
        engine.connect()
    assert getattr(caught.value, "__notes__", []) == []
    assert [(one.timeouts, len(one.waiting), len(one.held)) for one in rig.runtime.pools] == [(0, 0, 0)]


def test_who_waits_for_longer_than_the_setting_is_told_while_waiting(rig, watched, address, tracer, telemetry):
    engine = sqlalchemy.create_engine(address, pool_size=1, max_overflow=0, pool_timeout=20)
    (kept,), _ = hoard(engine, tracer, count=1)
    waiter = threading.Thread(target=lambda: engine.connect().close())
    waiter.start()
    while not any(one.waiting for one in rig.runtime.pools):
        pass
    rig.pass_time(6)
    assert len(telemetry.events("crawlo.pool.exhausted")) == 1
    kept.close()
    waiter.join(20)
    rig.runtime.tick()
    assert [one.timeouts for one in rig.runtime.pools] == [0]
    engine.dispose()


def test_pool_metrics_have_semantic_names(rig, watched, address, place, telemetry):
    engine = sqlalchemy.create_engine(address, pool_size=3, max_overflow=4)
    before = telemetry.metrics()
    kept, other = engine.connect(), engine.connect()
    other.close()
    rig.pass_time(1)
    points = telemetry.metrics()
    counts = {
        point.attributes["db.client.connection.state"]: point.value for point in points["db.client.connection.count"]
    }
    assert counts == {"used": 1, "idle": 1}
    expected = {"max": 7, "idle.max": 3, "pending_requests": 0}
    for name, value in expected.items():
        assert [point.value for point in points[f"db.client.connection.{name}"]] == [value]
    assert points["db.client.connection.max"][0].attributes == {"db.client.connection.pool.name": place}

    def grown(name):
        old = {str(point.attributes): point.count for point in before.get(name, [])}
        return sum(point.count - old.get(str(point.attributes), 0) for point in points[name])

    assert [grown(f"db.client.connection.{name}_time") for name in ("create", "wait", "use")] == [2, 2, 1]
    kept.close()
    engine.dispose()


@pytest.mark.parametrize("options", [{"pool_size": 0}, {"max_overflow": -1}])
def test_a_pool_without_limit_tells_none(rig, watched, options):
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.QueuePool, **options)
    engine.connect().close()
    (known,) = rig.runtime.pools
    assert (known.read().max, known.read().idle) == (None, 1)


def test_a_pool_is_called_by_the_programs_own_name(rig, watched):
    engine = sqlalchemy.create_engine("sqlite://", pool_logging_name="orders")
    engine.connect().close()
    assert names(rig) == ["orders"]


def test_an_sqlite_pool_is_called_by_its_file(rig, watched, tmp_path):
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    engine.connect().close()
    memory = sqlalchemy.create_engine("sqlite://")
    memory.connect().close()
    assert names(rig) == [str(tmp_path / "app.db"), ":memory:"]


class TestHidden:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, capture_paths=False)

    def test_only_the_suffix_is_told_where_paths_are_not(self, rig, watched, tmp_path):
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'app.db'}")
        engine.connect().close()
        assert names(rig) == ["*.db"]


def test_a_pool_whose_url_tells_nothing_is_called_by_what_the_driver_says(rig, watched, address, place):
    driver = __import__("psycopg" if NEW else "psycopg2")
    creator = sqlalchemy.create_engine(address.drivername + "://", creator=lambda: driver.connect(servers.postgres()))
    creator.connect().close()
    assert names(rig) == [place]
    bare = pool.QueuePool(lambda: driver.connect(servers.postgres()))
    bare.connect().close()
    assert names(rig) == [place, place]


def test_no_password_is_told(rig, watched, address):
    url = address.set(password="hunter2").update_query_dict({"application_name": "hunter2"})
    engine = sqlalchemy.create_engine(url)
    connection = engine.connect()
    assert "hunter2" not in repr([*names(rig), *(handle.label() for handle in rig.held)])
    connection.close()
    engine.dispose()


@pytest.mark.parametrize("contrib_first", [True, False])
def test_it_works_beside_contribs_in_both_orders(rig, tracer, contrib_first):
    ours, contribs = SqlAlchemyInstrumentor(), SQLAlchemyInstrumentor()
    order = [contribs, ours] if contrib_first else [ours, contribs]
    for one in order:
        one.instrument(skip_dep_check=True)
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.QueuePool)

    def work():
        return engine.connect()

    with tracer.start_as_current_span("job"):
        with engine.connect() as connection:
            connection.execute(SELECT)
        kept = work()
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.reason.value, leak.where.text) == ("owner_finished", "return engine.connect()")
    kept.close()
    rig.pass_time(1)
    assert rig.held == []
    for one in order:
        one.uninstrument()
    with engine.connect():
        assert rig.held == []


def test_contribs_metric_is_another_one(rig, watched, telemetry):
    """`db.client.connections.usage` is the name of old; ours are not silent for its sake."""
    contribs = SQLAlchemyInstrumentor()
    contribs.instrument(skip_dep_check=True)
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.QueuePool)
    kept = engine.connect()
    rig.pass_time(1)
    assert {"db.client.connections.usage", "db.client.connection.count"} <= set(telemetry.metrics(scope=""))
    kept.close()
    contribs.uninstrument()

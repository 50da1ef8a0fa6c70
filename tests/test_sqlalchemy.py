"""SQLAlchemy's sync engines against real PostgreSQL and SQLite."""

from __future__ import annotations

import contextlib
import threading

import pytest
import sqlalchemy
from conftest import GRACE, SCAN
from garbage import collect
from sqlalchemy import pool, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy_steps import LEAKED, SELECT, postgres_url, take

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.sqlalchemy import SqlAlchemyInstrumentor
from crawlo_otel_leaks.settings import Settings


@pytest.fixture
def watched(rig):
    instrumentor = SqlAlchemyInstrumentor()
    instrumentor.instrument()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.fixture(params=["postgresql", "sqlite"])
def engine(request, watched, tmp_path):
    url = postgres_url() if request.param == "postgresql" else f"sqlite:///{tmp_path / 'app.db'}"
    made = sqlalchemy.create_engine(url, poolclass=pool.QueuePool)
    yield made
    made.dispose()


@pytest.fixture
def server(watched):
    made = sqlalchemy.create_engine(postgres_url())
    yield made
    made.dispose()


def test_what_is_given_back_is_no_leak_and_nothing_stays_held(rig, engine, tracer):
    for _ in range(50):
        with tracer.start_as_current_span("job"), engine.connect() as connection:
            connection.execute(SELECT)
        with tracer.start_as_current_span("job"), Session(engine) as session:
            session.execute(SELECT)
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert len(rig.recorder.released_handles) == 100
    assert [len(one.held) for one in rig.runtime.pools] == [0]


def test_a_session_never_closed_is_a_leak_at_the_line_that_first_executed(rig, engine, tracer):
    def work():
        session = Session(engine)
        session.execute(SELECT)
        return session

    with tracer.start_as_current_span("job") as span:
        session = work()
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert (leak.kind, leak.reason.value) == LEAKED
    assert leak.where.text == "session.execute(SELECT)"
    assert leak.where.function.endswith("work")
    assert leak.owner.span == span.get_span_context()
    session.close()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 1
    assert rig.held == []


def test_a_dropped_connection_goes_back_silently(rig, engine, tracer):
    def drop():
        with tracer.start_as_current_span("job"):
            left = engine.connect()
            left.execute(SELECT)

    for _ in range(10):
        drop()
    collect()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert engine.pool.checkedout() == 0


def test_one_dropped_in_a_cycle_goes_back_too(rig, engine, tracer):
    def drop():
        with tracer.start_as_current_span("job"):
            left = [engine.raw_connection()]
            left.append(left)

    drop()
    collect()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_detached_connection_is_the_programs_own(rig, engine, tracer):
    clean, dropped, kept = (take(engine, tracer) for _ in range(3))
    for connection in (clean, dropped, kept):
        connection.detach()
    del connection
    clean.close()
    del dropped
    collect()
    rig.settle()
    assert sorted(rig.verdicts) == [("db.connection", "abandoned"), LEAKED]
    assert [len(one.held) for one in rig.runtime.pools] == [0]
    kept.close()
    rig.pass_time(1)
    assert rig.held == []


def test_an_invalidated_connection_is_given_back(rig, engine, tracer):
    connection = take(engine, tracer)
    connection.invalidate()
    assert rig.held == []
    connection.close()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_acquired_in_one_thread_and_released_in_another(rig, server, tracer):
    connection = take(server, tracer)
    thread = threading.Thread(target=connection.close)
    thread.start()
    thread.join()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_pool_disposed_with_connections_out(rig, engine, tracer):
    connection = take(engine, tracer)
    engine.dispose()
    rig.settle()
    assert rig.verdicts == [LEAKED]
    connection.close()
    rig.pass_time(1)
    assert rig.held == []
    with engine.connect() as again:
        again.execute(SELECT)
    assert rig.held == []


def test_a_rollback_that_fails_at_the_return_still_gives_back(rig, server, tracer):
    connection = take(server, tracer)
    pid = connection.execute(text("select pg_backend_pid()")).scalar()
    with server.connect() as other:
        other.execute(text(f"select pg_terminate_backend({pid})"))
    with contextlib.suppress(sqlalchemy.exc.OperationalError):  # 1.4 only logs it
        connection.close()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def adoptable(engine):
    session, connection, raw = Session(engine), engine.connect(), engine.raw_connection()
    session.execute(SELECT)
    with session.begin_nested():
        adopt(session)
    adopt(connection)
    adopt(raw)
    proxy, scoped = engine.raw_connection(), scoped_session(sessionmaker(engine))
    adopt(proxy.dbapi_connection)
    adopt(scoped)
    scoped.execute(SELECT)
    adopt(scoped)
    return session, connection, raw, proxy, scoped


def test_what_is_kept_by_design_can_be_adopted_by_any_name(rig, engine, tracer):
    with tracer.start_as_current_span("job"):
        kept = [*adoptable(engine), adopt(Session(engine)), adopt(engine)]
    rig.settle()
    assert rig.verdicts == []
    assert len(rig.held) == 5
    for one in kept[:5]:
        one.close()
    rig.pass_time(1)
    assert rig.held == []


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",))

    def test_it_can_be_exempted_by_a_setting(self, rig, engine, tracer):
        with tracer.start_as_current_span("job"):
            connection = engine.connect()
        rig.settle()
        assert rig.verdicts == []
        connection.close()


def test_a_long_query_is_slow_and_no_leak(rig, server, tracer):
    connection = take(server, tracer)
    thread = threading.Thread(target=lambda: connection.execute(text("select pg_sleep(2)")))
    thread.start()
    while not rig.held[0].busy():
        pass
    rig.pass_time(60, steps=30)
    assert rig.verdicts == [("db.connection", "slow")]
    thread.join()
    assert not rig.held[0].busy()
    connection.close()
    rig.pass_time(1)
    assert rig.held == []

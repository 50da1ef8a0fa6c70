"""SQLAlchemy's kinds of pools, and the library's own behaviour unchanged."""

from __future__ import annotations

import operator

import programs
import pytest
import sqlalchemy
from opentelemetry import trace
from sqlalchemy import event, pool, text
from sqlalchemy_steps import LEAKED, NEW, SELECT, postgres_url, take

from crawlo_otel_leaks.instrumentation.sqlalchemy import SqlAlchemyInstrumentor


@pytest.fixture
def watched(rig):
    instrumentor = SqlAlchemyInstrumentor()
    instrumentor.instrument()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.fixture
def server(watched):
    made = sqlalchemy.create_engine(postgres_url())
    yield made
    made.dispose()


@pytest.mark.parametrize("name", ["SingletonThreadPool", "NullPool", "AssertionPool", "QueuePool"])
def test_each_pool_gives_and_takes(rig, watched, tracer, name):
    engine = sqlalchemy.create_engine("sqlite://", poolclass=getattr(pool, name))
    with tracer.start_as_current_span("job"):
        with engine.connect() as connection:
            connection.execute(SELECT)
            assert len(rig.held) == 1
        assert rig.held == []
    kept = take(engine, tracer)
    rig.settle()
    assert rig.verdicts == [LEAKED]
    kept.close()
    rig.pass_time(1)
    assert rig.held == []
    engine.dispose()


def test_one_connection_taken_twice_by_its_thread_is_held_once(rig, watched, tracer):
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.SingletonThreadPool)
    outer = engine.connect()
    held = rig.held
    inner = engine.connect()
    assert (len(held), rig.held) == (1, held)
    inner.close()
    assert rig.held == held
    outer.close()
    assert rig.held == []
    engine.dispose()


def test_the_connection_of_a_static_pool_is_shared_by_design(rig, watched, tracer):
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.StaticPool)
    with tracer.start_as_current_span("job"):
        kept = engine.connect()
    rig.settle()
    assert (rig.verdicts, rig.held, list(rig.runtime.pools)) == ([], [], [])
    kept.close()


def test_a_listener_of_the_program_may_refuse_a_checkout(rig, server):
    refusals = []

    def refuse(*_):
        refusals.append(1)
        raise ValueError("not today")

    event.listen(server, "checkout", refuse)
    with pytest.raises(ValueError, match="not today") as caught:
        server.connect()
    assert (getattr(caught.value, "__notes__", []), rig.held, refusals) == ([], [], [1])
    event.remove(server, "checkout", refuse)


def test_uninstrumented_it_is_as_before(rig):
    def state():
        checkin = pool._ConnectionRecord.checkin
        return checkin, pool.Pool.connect, pool.SingletonThreadPool.connect, sqlalchemy.engine.Engine.__init__

    before, instrumentor = state(), SqlAlchemyInstrumentor()
    instrumentor.instrument()
    assert not any(map(operator.is_, state(), before))
    listened = [name for name, listener in instrumentor._watch.listeners() if event.contains(pool.Pool, name, listener)]
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.QueuePool)
    kept, dispatch = engine.connect(), engine.pool.dispatch
    watch = instrumentor._watch
    instrumentor.uninstrument()
    assert (all(map(operator.is_, state(), before)), len(listened), rig.held) == (True, 4, [])
    assert not any(event.contains(pool.Pool, name, listener) for name, listener in watch.listeners())
    assert not dispatch.detach
    kept.close()
    with engine.connect():
        assert rig.held == []


def test_a_forked_child_has_none_of_its_parents(tmp_path, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    source = f"""
        import os, sys
        import sqlalchemy
        from opentelemetry import trace

        engine = sqlalchemy.create_engine({postgres_url()!r})

        def parent():
            with trace.get_tracer("app").start_as_current_span("job"):
                kept = engine.connect()
            pid = os.fork()
            if not pid:
                engine.dispose(**({{"close": False}} if {NEW} else {{}}))
                with engine.connect() as own:
                    own.execute(sqlalchemy.text("select 1"))
                sys.stdout.flush()
                os._exit(0) if not {NEW} else sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            kept.execute(sqlalchemy.text("select 1"))
            kept.close()

        parent()
    """
    done = programs.run(tmp_path, source, REPORT="out.json", **programs.NO_TICK)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert [programs.leaks(report) for report in sorted(tmp_path.glob("out*.json"))] == [[]] * (2 if NEW else 1)


def test_results_and_errors_are_the_librarys_own(server):
    with pytest.raises(sqlalchemy.exc.ProgrammingError) as caught, server.connect() as connection:
        connection.execute(text("select nonsense"))
    assert getattr(caught.value, "__notes__", []) == []
    assert trace.get_current_span() is trace.INVALID_SPAN

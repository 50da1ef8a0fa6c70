"""psycopg2: connections that a program opens itself, against a real server."""

from __future__ import annotations

import copy
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
import pytest
import servers
from garbage import collect
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor as ContribInstrumentor
from postgres_steps import LEAKED, crowded_user, note_of, of_server

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.psycopg2 import Psycopg2Instrumentor


@pytest.fixture
def instrumentor(rig):
    made = Psycopg2Instrumentor()
    yield made
    made.uninstrument()


@pytest.fixture
def watched(rig, instrumentor):
    instrumentor.instrument()
    rig.runtime.tick()


class OfTheProgram(psycopg2.extensions.connection):
    closes = 0

    def close(self):
        self.closes += 1
        super().close()


class WithSlots(psycopg2.extensions.connection):
    __slots__ = ()


FACTORIES = {
    "none": None,
    "class": OfTheProgram,
    "function": lambda dsn, *_: OfTheProgram(dsn),
    "extras": psycopg2.extras.RealDictConnection,
}


def connect(factory=None):
    return psycopg2.connect(servers.postgres(), connection_factory=factory)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_a_hundred_opened_and_closed_leave_nothing(rig, factory):
    for _ in range(25):
        connection = connect(factory)
        assert [(handle.kind, handle.name) for handle in rig.held] == [("db.connection", of_server())]
        with connection, connection.cursor() as cursor:
            cursor.execute("select 1 as one")
        connection.close()
        connection.close()
        assert rig.held == []
        assert connection.closed == 1
    assert getattr(connection, "closes", 2) == 2
    rig.settle()
    assert (rig.verdicts, len(rig.recorder.released_handles)) == ([], 25)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_those_that_their_jobs_leave_open_are_leaks_and_one_for_all_jobs_is_not(rig, tracer, factory):
    kept = []

    def job():
        with tracer.start_as_current_span("job"):
            kept.append(connect(factory))

    def work():
        job()

    work()
    rig.settle()
    assert rig.verdicts == [], "the only one that its line made may be shared by design"
    work()
    rig.settle()
    assert rig.verdicts == [LEAKED, LEAKED]
    assert rig.recorder.opened_leaks[0].where.text.startswith("return psycopg2.connect(servers.postgres()")
    for connection in kept:
        connection.close()
    rig.pass_time(1)
    assert len(rig.recorder.resolved_leaks) == 2


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_one_that_is_dropped_is_abandoned(rig, factory):
    connection = connect(factory)
    del connection
    collect()
    rig.pass_time(1)
    assert rig.verdicts == [("db.connection", "abandoned")]


@pytest.mark.usefixtures("watched")
def test_one_that_the_server_closed_is_no_leak(rig):
    kept, other = [connect() for _ in range(2)], connect()
    with other.cursor() as cursor:
        for connection in kept:
            cursor.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
    other.close()
    for connection in kept:
        with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
            cursor.execute("select 1")
    del connection, cursor
    kept.pop()
    collect()
    rig.settle()
    assert (rig.held, rig.verdicts) == ([], [])


@pytest.mark.usefixtures("watched")
def test_to_the_program_a_connection_is_as_ever(rig):
    connection, plain = connect(), psycopg2.extensions.connection(servers.postgres())
    mine, theirs = type(connection), type(plain)
    assert isinstance(connection, psycopg2.extensions.connection)
    assert (mine.__name__, mine.__module__, mine.__doc__) == (theirs.__name__, theirs.__module__, theirs.__doc__)
    assert repr(mine) == repr(theirs)
    assert repr(connection).split(" at ")[0] == repr(plain).split(" at ")[0]
    assert {name for name in dir(connection) if not name.startswith("__")} <= set(dir(plain))
    with pytest.raises(AttributeError):
        connection.something = 1
    with pytest.raises(TypeError):
        copy.copy(connection)
    with pytest.raises(TypeError):
        connection.cursor(nonsense=1)
    plain.close()
    connection.close()
    with pytest.raises(psycopg2.InterfaceError, match="connection already closed"):
        connection.cursor()


@pytest.mark.usefixtures("watched")
def test_what_django_opens_it_keeps_by_its_own_rules(rig):
    django = {"__name__": "django.db.backends.postgresql.base", "psycopg2": psycopg2}
    exec("def get_new_connection(url): return psycopg2.connect(url)", django)
    connection = django["get_new_connection"](servers.postgres())
    assert rig.held == []
    connection.close()


@pytest.mark.usefixtures("watched")
def test_what_cannot_tell_of_its_close_is_not_watched(rig):
    connection = connect(WithSlots)
    assert rig.held == []
    connection.close()


@pytest.mark.usefixtures("watched")
def test_what_is_refused_holds_nothing_and_is_the_librarys_own(rig):
    with pytest.raises(psycopg2.OperationalError, match="Connection refused") as caught:
        psycopg2.connect(servers.postgres(), port=servers.free_port())
    assert getattr(caught.value, "__notes__", []) == []
    with pytest.raises(psycopg2.ProgrammingError):
        psycopg2.connect(nonsense=1)
    assert rig.held == []


@pytest.mark.usefixtures("watched")
def test_whom_the_server_refuses_one_is_told_who_holds_the_others(rig):
    made, url = crowded_user()
    owner = connect()
    owner.autocommit = True
    with owner.cursor() as cursor:
        for statement in made:
            cursor.execute(statement)
    kept = psycopg2.connect(url)
    rig.clock.advance(60)
    with pytest.raises(psycopg2.OperationalError) as caught:
        psycopg2.connect(url)
    assert "too many connections" in str(caught.value)
    assert note_of(caught.value).startswith(f"2 connections of pool {of_server()} held: 1 since up to 60 s by ")
    assert "s3cret" not in note_of(caught.value)
    kept.close()
    owner.close()
    assert rig.held == []


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("adopted", [True, False])
def test_a_listener_is_kept_by_design_when_it_is_adopted(rig, tracer, adopted):
    def listen():
        with tracer.start_as_current_span("job"):
            connection = connect()
            with connection.cursor() as cursor:
                cursor.execute("listen news")
            return adopt(connection) if adopted else connection

    kept = [listen() for _ in range(2)]
    rig.settle()
    assert rig.verdicts == ([] if adopted else [LEAKED, LEAKED])
    for connection in kept:
        connection.close()


@pytest.mark.usefixtures("watched")
def test_one_that_other_requests_use_is_shared(rig, tracer):
    kept = []

    def open_it():
        with tracer.start_as_current_span("first"):
            kept.append(connect())

    for _ in range(2):
        open_it()
    for connection in kept:
        with tracer.start_as_current_span("second"), connection.cursor() as cursor:
            cursor.execute("select 1")
    rig.settle()
    assert rig.verdicts == []
    thread = threading.Thread(target=lambda: [connection.close() for connection in kept])
    thread.start()
    thread.join()
    assert rig.held == []


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("ours_leaves_first", [True, False])
def test_beside_contribs_instrumentation(rig, instrumentor, telemetry, ours_first, ours_leaves_first):
    theirs = ContribInstrumentor()
    for one in (instrumentor, theirs) if ours_first else (theirs, instrumentor):
        one.instrument()

    def main(watched):
        connection = connect()
        with connection.cursor() as cursor:
            cursor.execute("select 1")
            assert cursor.fetchone() == (1,)
        assert len(rig.held) == watched
        connection.close()
        assert rig.held == []

    main(watched=1)
    assert len(telemetry.spans("select")) == 1
    for one in (instrumentor, theirs) if ours_leaves_first else (theirs, instrumentor):
        one.uninstrument()
    main(watched=0)
    assert len(telemetry.spans("select")) == 1


def test_uninstrumented_the_library_is_as_before(rig, instrumentor):
    def names():
        kinds = psycopg2.pool.AbstractConnectionPool, psycopg2.pool.SimpleConnectionPool, psycopg2
        return [{name: id(value) for name, value in vars(kind).items()} for kind in kinds]

    before = names()
    instrumentor.instrument()
    assert all(one != other for one, other in zip(before, names(), strict=True))
    kept = [connect(), connect(OfTheProgram)]
    instrumentor.uninstrument()
    assert names() == before
    assert vars(kept[1]) == {}
    assert type(connect()) is psycopg2.extensions.connection
    for connection in kept:
        connection.close()
    assert rig.held == []


def test_either_name_of_the_library_will_do(instrumentor):
    assert instrumentor.instrumentation_dependencies() in (("psycopg2-binary >= 2.9",), ("psycopg2 >= 2.9",))
    instrumentor.instrument()
    assert instrumentor.is_instrumented_by_opentelemetry

"""The standard library's sqlite3: its own behaviour unchanged, what is left open told."""

from __future__ import annotations

import contextlib
import shelve
import sqlite3
import sys
import threading
from pathlib import Path

import programs
import pytest
import sqlalchemy
from conftest import GRACE, SCAN
from garbage import collect
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

from crawlo_otel_leaks import adopt
from crawlo_otel_leaks.instrumentation.sqlite3 import Sqlite3Instrumentor
from crawlo_otel_leaks.settings import Settings

LEAKED = ("db.connection", "owner_finished")
ABANDONED = ("db.connection", "abandoned")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database")  # 3.13 says so itself

PLAIN = sqlite3.connect
BEFORE = (repr(type(PLAIN(":memory:"))), dir(PLAIN(":memory:")))


class Own(sqlite3.Connection):
    """A factory of the program's."""

    closed = False

    def close(self):
        super().close()
        self.closed = True


class Slotted(sqlite3.Connection):
    __slots__ = ("__weakref__",)


@pytest.fixture
def watched(rig):
    instrumentor = Sqlite3Instrumentor()
    instrumentor.instrument()
    yield instrumentor
    instrumentor.uninstrument()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def take(path, tracer, **options):
    with tracer.start_as_current_span("job"):
        return sqlite3.connect(path, **options)


def test_what_is_closed_is_no_leak(rig, watched, path, tracer):
    for connect in (sqlite3.connect, sqlite3.dbapi2.connect) * 50:
        with tracer.start_as_current_span("job"), contextlib.closing(connect(path)) as connection:
            connection.execute("select 1")
            assert [handle.label() for handle in rig.held] == [str(path)]
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])
    assert len(rig.recorder.released_handles) == 100
    assert [len(one.held) for one in rig.runtime.pools] == [0]


def test_what_is_left_open_is_a_leak_at_its_line(rig, watched, path, tracer):
    kept = [take(path, tracer) for _ in range(2)]
    rig.settle()
    assert rig.verdicts == [LEAKED] * 2
    assert rig.recorder.opened_leaks[0].where.text == "return sqlite3.connect(path, **options)"
    for connection in kept:
        connection.close()
    rig.pass_time(1)
    assert (len(rig.recorder.resolved_leaks), rig.held) == (2, [])


def test_one_that_its_line_made_only_once_is_presumed_to_be_kept(rig, watched, path, tracer):
    kept = take(path, tracer)
    rig.settle()
    assert rig.verdicts == []
    kept.close()


@pytest.mark.parametrize("cyclic", [False, True])
def test_one_that_is_dropped_is_abandoned(rig, watched, path, tracer, cyclic):
    def drop():
        left = [take(path, tracer)]
        if cyclic:
            left.append(left)

    drop()
    collect()
    rig.settle()
    assert rig.verdicts == [ABANDONED]
    assert [len(one.held) for one in rig.runtime.pools] == [0]


def test_a_with_block_does_not_close(rig, watched, path, tracer):
    def work():
        with tracer.start_as_current_span("job"), sqlite3.connect(path) as connection:
            connection.execute("create table things (name)")

    work()
    collect()
    rig.settle()
    assert rig.verdicts == [ABANDONED]


def test_a_close_that_is_refused_leaves_it_open(rig, watched, path, tracer):
    connection = take(path, tracer)
    errors = []

    def close():
        try:
            connection.close()
        except sqlite3.ProgrammingError as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert (len(errors), len(rig.held)) == (1, 1)
    connection.close()
    connection.close()
    assert rig.held == []


def test_what_is_kept_by_design_can_be_adopted(rig, watched, path, tracer):
    kept = [adopt(take(path, tracer)) for _ in range(3)]
    rig.settle()
    assert rig.verdicts == []
    for connection in kept:
        connection.close()


class TestIgnored:
    @pytest.fixture
    def settings(self):
        return Settings(grace=GRACE, scan_interval=SCAN, ignore=("db.connection",), capture_paths=False)

    def test_it_can_be_exempted_by_a_setting_and_its_path_be_hidden(self, rig, watched, path, tracer):
        kept = [take(path, tracer) for _ in range(2)]
        assert [handle.label() for handle in rig.held] == ["*.db"] * 2
        rig.settle()
        assert rig.verdicts == []
        for connection in kept:
            connection.close()


def test_its_class_looks_like_the_librarys(watched):
    connection = sqlite3.connect(":memory:")
    assert isinstance(connection, sqlite3.Connection)
    assert repr(type(connection)) == BEFORE[0]
    assert repr(connection).startswith("<sqlite3.Connection object at 0x")
    assert set(dir(connection)) - set(BEFORE[1]) <= {"__slots__", "__weakref__", "__module__"}
    with pytest.raises(AttributeError):
        connection.something = 1
    assert type(connection) is type(sqlite3.connect(":memory:"))
    assert connection.close.__doc__ == sqlite3.Connection.close.__doc__
    target = sqlite3.connect(":memory:")
    connection.backup(target)
    for one in (connection, target):
        one.close()


@pytest.mark.parametrize("factory", [Own, Slotted])
def test_a_factory_of_the_programs_is_respected(rig, watched, factory):
    for _ in range(2):
        connection = sqlite3.connect(":memory:", factory=factory)
        assert isinstance(connection, factory)
        assert (type(connection).__name__, type(connection).__module__) == (factory.__name__, __name__)
        assert len(rig.held) == 1
        connection.close()
        assert rig.held == []
    assert connection.closed if factory is Own else True
    assert len(factory.__subclasses__()) == 1


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="from 3.13 on it is deprecated by place")
def test_a_factory_by_place(rig, watched):
    connection = sqlite3.connect(":memory:", 5.0, 0, None, True, Own)
    assert isinstance(connection, Own)
    assert len(rig.held) == 1
    connection.close()
    assert (connection.closed, rig.held) == (True, [])


def test_a_factory_that_is_no_class_is_left_alone(rig, watched):
    def factory(*args, **options):
        return sqlite3.Connection(*args)

    connection = sqlite3.connect(":memory:", factory=factory)
    assert type(connection) is sqlite3.Connection
    assert rig.held == []
    connection.close()


def test_errors_are_the_librarys_own(rig, watched, tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file") as caught:
        sqlite3.connect(tmp_path / "nowhere" / "app.db")
    assert (getattr(caught.value, "__notes__", []), rig.held) == ([], [])
    for wrong in (None, 3.14, object()):
        with pytest.raises(TypeError):
            sqlite3.connect(wrong)
    with pytest.raises(TypeError):
        sqlite3.connect()


def test_no_key_is_told(rig, watched, path):
    connection = sqlite3.connect(f"file:{path}?mode=rwc&key=hunter2", uri=True)
    assert [handle.label() for handle in rig.held] == [f"file:{path}"]
    connection.close()


def test_connections_of_a_pool_are_another_ones(rig, watched, tmp_path):
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with engine.connect():
        assert rig.held == []
    engine.dispose()


def test_a_shelf_that_is_closed_gives_no_alarm(rig, watched, tmp_path, tracer):
    with tracer.start_as_current_span("job"):
        for _ in range(3):
            with shelve.open(str(tmp_path / "shelf")) as shelf:
                shelf["key"] = 1
    collect()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


@pytest.mark.parametrize("contrib_first", [True, False])
def test_it_works_beside_contribs_in_both_orders(rig, path, tracer, contrib_first, monkeypatch):
    for module in (sqlite3, sqlite3.dbapi2):  # contrib's takes away whoever wrapped last, and leaves itself
        monkeypatch.setattr(module, "connect", PLAIN)
    ours, contribs = Sqlite3Instrumentor(), SQLite3Instrumentor()
    order = [contribs, ours] if contrib_first else [ours, contribs]
    for one in order:
        one.instrument()
    kept = [take(path, tracer) for _ in range(2)]
    adopt(kept[0])
    rig.settle()
    assert rig.verdicts == [LEAKED]
    for connection in kept:
        connection.cursor().execute("select 1")
        connection.close()
    rig.pass_time(1)
    assert rig.held == []
    for one in order:
        one.uninstrument()
    with contextlib.closing(sqlite3.connect(":memory:")):
        assert rig.held == []


def test_uninstrumented_it_is_as_before(rig):
    instrumentor = Sqlite3Instrumentor()
    instrumentor.instrument()
    kept = sqlite3.connect(":memory:")
    assert sqlite3.connect is sqlite3.dbapi2.connect
    instrumentor.uninstrument()
    assert (sqlite3.connect, sqlite3.dbapi2.connect, rig.held) == (PLAIN, PLAIN, [])
    kept.close()
    sqlite3.connect(":memory:").close()


def test_a_program_that_imports_it_later_is_watched_and_its_forked_child_has_none_of_it(tmp_path, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    source = """
        import os, sys
        import sqlite3

        def drop():
            left = sqlite3.connect("childs.db")

        kept = sqlite3.connect("parents.db")
        pid = os.fork()
        if not pid:
            del kept
            drop()
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        kept.close()
    """
    done = programs.run(tmp_path, source, REPORT="out.json", **programs.NO_TICK)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    reports = {path.name == "out.json": programs.leaks(path) for path in Path(tmp_path).glob("out*.json")}
    assert reports == {True: [], False: [(*ABANDONED, "childs.db")]}

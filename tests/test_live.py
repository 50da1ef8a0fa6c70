"""What `crawlo-leaks top` is told: the table, and the socket that only the same user can open."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

import pytest
from conftest import GRACE, Rig

from crawlo_otel_leaks import endpoint, live, process
from crawlo_otel_leaks.endpoint import WATCHERS, Endpoint
from crawlo_otel_leaks.model import NamedHandle, Scope
from crawlo_otel_leaks.owner import current_scope
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.vitals import INTERVAL


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of this user's sockets."""
    made = tmp_path / "sockets"
    monkeypatch.setattr(endpoint, "folder", lambda user: made)
    return made


@pytest.fixture
def listening(rig, place):
    rig.runtime.endpoint.open()
    yield rig
    rig.runtime.endpoint.close()


@pytest.fixture
def watch(place):
    opened = []

    def connect():
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(5)
        one.connect(str(place / f"{os.getpid()}.sock"))
        opened.append(one)
        return one

    yield connect
    for one in opened:
        one.close()


def tables(watcher):
    """What has been told to a watcher so far."""
    told = watcher.recv(1 << 20).decode()
    return [json.loads(line) for line in told.splitlines()]


class Part(NamedHandle):
    __slots__ = ("part_of",)
    elementary = True


def take(rig, name="a", kind="file", scope=None, make=NamedHandle):
    token = current_scope.set(scope)
    handle = rig.runtime.tracker.acquire(make(kind, name), sys._getframe())
    current_scope.reset(token)
    return handle


def rows(rig):
    return [
        (row["kind"], row["count"], row["verdict"], row["leak"])
        for row in live.table(rig.runtime.detector, rig.runtime.vitals)["rows"]
    ]


# The table.


def test_handles_are_summed_up_by_line_kind_and_verdict_the_leaks_first(rig):
    ended = Scope("job", ended_at=rig.clock())
    for _ in range(2):
        take(rig, scope=ended)
    kept = take(rig)
    rig.pass_time(3 * GRACE, steps=30)
    kept.process = True
    for _ in range(3):
        take(rig, kind="custom")
    assert rows(rig) == [
        ("file", 2, "scope_end", True),
        ("custom", 3, "", False),
        ("file", 1, "process", False),
    ]


def test_the_same_line_called_from_several_is_one_row(rig):
    take(rig)
    take(rig)
    assert rows(rig) == [("file", 2, "", False)]


def test_a_row_says_where_by_whom_and_since_when(rig, tracer):
    with tracer.start_as_current_span("job") as span:
        take(rig, "/tmp/x", scope=Scope("import", attributes={"spider": "shop", "run_id": "7"}))
    rig.clock.advance(5)
    (row,) = live.table(rig.runtime.detector, rig.runtime.vitals)["rows"]
    assert row["name"] == "/tmp/x"
    assert row["age_s"] == 5
    assert (row["site"]["file"], row["site"]["function"]) == (__file__, "take")
    assert row["owner"] == {
        "spider": "shop",
        "run_id": "7",
        "task": None,
        "thread": threading.current_thread().name,
        "scope": "import",
    }
    assert row["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_a_part_is_told_as_such(rig):
    holder = take(rig, kind="http.connection")
    take(rig, kind="socket", make=Part).part_of = holder
    assert ("socket", 1, "part of http.connection", False) in rows(rig)


def test_what_the_table_has_no_place_for_is_counted(rig, monkeypatch):
    monkeypatch.setattr(live, "LOOK", 7)
    monkeypatch.setattr(live, "ROWS", 1)
    for kind in ("file", "file", "custom"):
        for _ in range(4):
            take(rig, kind=kind)
    table = live.table(rig.runtime.detector, rig.runtime.vitals)
    assert [row["count"] for row in table["rows"]] == [7]
    assert table["left_out"] == 5
    assert table["handles"] == {"file": 8, "custom": 4}


def test_the_process_is_told_as_of_the_newest_snapshot(rig):
    assert live.table(rig.runtime.detector, rig.runtime.vitals)["process"]["rss"] is None
    rig.pass_time(INTERVAL)
    told = live.table(rig.runtime.detector, rig.runtime.vitals)["process"]
    assert told["rss"] > 1e6
    assert told["unattributed"] == 0


# The socket.


def test_whoever_connects_is_told_the_table_at_each_tick(listening, watch):
    one = watch()
    listening.pass_time(1)
    take(listening)
    listening.pass_time(1)
    assert [table["handles"] for table in tables(one)] == [{}, {"file": 1}]


def test_without_a_watcher_no_table_is_made(listening):
    listening.runtime.endpoint.tell(lambda: pytest.fail("made for nobody"))


def test_somebody_who_has_hung_up_or_does_not_read_is_let_go(listening, watch):
    watch().close()
    slow = watch()
    listening.runtime.endpoint.tell(dict)
    assert listening.runtime.endpoint.watched
    listening.runtime.endpoint.tell(lambda: {"much": "x" * (4 << 20)})
    assert not listening.runtime.endpoint.watched
    assert slow.recv(1 << 10)


def test_only_so_many_may_watch_at_a_time(listening, watch):
    for _ in range(WATCHERS):
        watch()
    listening.pass_time(1)
    late = watch()
    listening.pass_time(1)
    assert len(listening.runtime.endpoint._watchers) == WATCHERS
    assert late.recv(10) == b""


def test_while_somebody_watches_there_is_a_tick_a_second(listening, watch):
    rig = Rig(Settings(scan_interval=30.0))
    assert rig.runtime._pause_between_ticks() == 30.0
    rig.runtime.endpoint = listening.runtime.endpoint
    watch()
    listening.pass_time(1)
    assert rig.runtime._pause_between_ticks() == 1.0


def test_its_own_descriptors_need_no_explanation(rig, place, watch):
    rig.runtime.endpoint.open()
    watcher = watch()
    rig.runtime.vitals.begin()
    rig.pass_time(1)
    rig.pass_time(INTERVAL)
    assert rig.runtime.vitals.numbers["crawlo.fd.unattributed"] == 0
    assert rig.runtime.endpoint.descriptors() <= set(process.descriptors())
    assert len(rig.runtime.endpoint.descriptors()) == 2
    assert watcher
    rig.runtime.endpoint.close()


def test_nobody_else_may_look_into_its_folder_nor_have_made_it(place):
    place.mkdir(0o755)
    one = Endpoint()
    one.open()
    assert one.descriptors() == set()
    place.chmod(0o700)
    one.open()
    assert (place / f"{os.getpid()}.sock").exists()
    one.close()
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))
    one.open()
    assert one.descriptors() == set()


def test_another_user_is_hung_up_on(listening, watch, monkeypatch):
    monkeypatch.setattr(endpoint, "_user_of", lambda watcher: os.getuid() + 1)
    stranger = watch()
    listening.pass_time(1)
    assert stranger.recv(10) == b""
    monkeypatch.setattr(endpoint, "_user_of", lambda watcher: None)
    watch()
    listening.pass_time(1)
    assert listening.runtime.endpoint.watched


def test_the_kernel_says_who_is_at_the_other_end():
    ours, theirs = socket.socketpair()
    assert endpoint._user_of(ours) == os.getuid()
    ours.close()
    theirs.close()


def test_where_the_kernel_does_not_say_nobody_is_named(monkeypatch):
    monkeypatch.delattr(socket, "SO_PEERCRED")
    assert endpoint._user_of(None) is None


def test_a_socket_left_by_a_former_process_is_replaced_and_ours_is_taken_away(place, watch):
    place.mkdir(0o700)
    path = place / f"{os.getpid()}.sock"
    path.write_text("left")
    one = Endpoint()
    one.open()
    assert watch()
    one.close()
    assert not path.exists()


def test_a_child_leaves_the_parents_socket_alone(listening, place, watch):
    watch()
    listening.pass_time(1)
    listening.runtime.endpoint.forked()
    assert listening.runtime.endpoint.descriptors() == set()
    assert (place / f"{os.getpid()}.sock").exists()


def test_the_setting_keeps_it_closed(place):
    rig = Rig(Settings(top=False))
    rig.runtime._open_endpoint()
    assert rig.runtime.endpoint.descriptors() == set()
    assert not place.exists()

"""Every way to open a file: its site, the moment it is released or abandoned, and its clean twin."""

from __future__ import annotations

import io
import os
import sys
import tempfile

import pytest
from garbage import collect

from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor

pytestmark = pytest.mark.usefixtures("instrumented")

WAYS = {
    "open": lambda path: open(path, "r"),  # noqa: PTH123, UP015  (one of the names; a frame of its own, as below)
    "io.open": lambda path: io.open(path, "r"),  # noqa: UP020  (one of the names)
    "Path.open": lambda path: path.open(),
    "os.fdopen": lambda path: os.fdopen(os.open(path, os.O_RDONLY)),
    "os.fdopen unbuffered": lambda path: os.fdopen(os.open(path, os.O_RDONLY), "rb", 0),
    "TemporaryFile": lambda path: tempfile.TemporaryFile(),
    "TemporaryFile text": lambda path: tempfile.TemporaryFile("w+"),
    "TemporaryFile unbuffered": lambda path: tempfile.TemporaryFile(buffering=0),
    "NamedTemporaryFile": lambda path: tempfile.NamedTemporaryFile(dir=path.parent),
    "NamedTemporaryFile unbuffered": lambda path: tempfile.NamedTemporaryFile(buffering=0),
    "NamedTemporaryFile that stays": lambda path: tempfile.NamedTemporaryFile(delete=False, dir=path.parent),
}
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

MODES = [
    *(("r", buffering) for buffering in (-1, 1, 100)),
    *(("w", buffering) for buffering in (-1, 1, 100)),
    *(("rb", buffering) for buffering in (-1, 0, 100)),
    *(("wb", buffering) for buffering in (-1, 0, 100)),
    *(("r+b", buffering) for buffering in (-1, 0, 100)),
    ("ab", 0),
    ("a+", -1),
    ("rt", True),
    ("br+", False),
]
mode = pytest.mark.parametrize(("mode", "buffering"), MODES, ids=str)


def reasons(rig):
    rig.runtime.tick()
    return [reason for _, reason in rig.verdicts]


def drop(opener):
    file = opener()
    assert not file.closed


@way
def test_whichever_way_it_is_opened_it_is_held_until_it_is_closed(rig, path, way):
    file = way(path)
    assert [handle.kind for handle in rig.held] == ["file"]
    assert rig.held[0].site.frames[0][0] is way.__code__
    file.close()
    assert rig.held == []
    assert reasons(rig) == []


@way
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whichever_way_it_is_opened_a_dropped_one_is_abandoned_once(rig, path, way):
    drop(lambda: way(path))
    assert rig.held == []
    assert reasons(rig) == ["abandoned"]
    rig.settle()
    assert len(rig.verdicts) == 1


@mode
def test_in_every_mode_a_closed_file_is_released(rig, path, mode, buffering):
    with open(path, mode, buffering):  # noqa: PTH123  (positional buffering)
        assert len(rig.held) == 1
    with path.open(mode=mode, buffering=buffering):
        assert len(rig.held) == 1
    assert rig.held == []
    assert reasons(rig) == []
    assert len(rig.recorder.released_handles) >= 2


@mode
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_in_every_mode_a_dropped_file_is_abandoned_at_once_and_closed(rig, path, mode, buffering):
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (the look itself opens one, each time)
    drop(lambda: open(path, mode, buffering))  # noqa: PTH123
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    assert reasons(rig) == ["abandoned"]
    assert rig.recorder.opened_leaks[0].name == str(path)


@mode
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_in_a_cycle_it_is_abandoned_when_the_collector_finds_it(rig, path, mode, buffering):
    collect()

    class Owner:
        """In a cycle with itself."""

    owner = Owner()
    owner.itself, owner.file = owner, open(path, mode, buffering)  # noqa: PTH123
    del owner
    assert reasons(rig) == []
    collect()
    assert reasons(rig) == ["abandoned"]


def test_a_file_that_its_owner_closes_while_the_collector_takes_both_is_no_leak(rig, path):
    class Owner:
        def __init__(self, *arguments):
            self.itself, self.file = self, open(*arguments)  # noqa: PTH123

        def __del__(self):
            self.file.close()

    for arguments in ((path,), (path, "rb"), (path, "rb", 0)):
        Owner(*arguments)
    collect()
    assert rig.held == []
    assert reasons(rig) == []


def test_a_file_that_its_owner_detaches_while_the_collector_takes_both_is_no_leak(rig, path):
    raws = []

    class Owner:
        def __init__(self):
            self.itself, self.file = self, path.open("rb")

        def __del__(self):
            raws.append(self.file.detach())

    Owner()
    collect()
    assert len(raws) == 1
    assert reasons(rig) == []
    assert rig.held == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_buffer_that_its_owner_detaches_while_the_collector_takes_the_text_is_watched_on(rig, path):
    buffers = []

    class Owner:
        def __init__(self):
            self.itself, self.file = self, path.open()

        def __del__(self):
            buffers.append(self.file.detach())

    Owner()
    collect()
    assert reasons(rig) == []
    assert [handle.referent() for handle in rig.held] == buffers
    buffers.clear()
    assert reasons(rig) == ["abandoned"]
    assert rig.held == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_of_text_that_is_kept_detached_the_buffer_goes_with_the_next_look(rig, path):
    text = path.open()
    number, buffer = text.fileno(), text.detach()
    (handle,) = rig.held
    handle.progress()
    assert handle.referent() is buffer
    del buffer
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    other = path.open()
    number = other.fileno()
    other.detach()
    (handle,) = rig.held
    os.fstat(number)
    handle.progress()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert rig.held == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_wrapper_of_the_users_own_is_abandoned_with_what_is_below(rig, path):
    drop(lambda: io.TextIOWrapper(path.open("rb"), encoding="utf-8"))
    drop(lambda: io.BufferedReader(path.open("rb", buffering=0)))
    assert reasons(rig) == ["abandoned", "abandoned"]
    io.TextIOWrapper(path.open("rb"), encoding="utf-8").close()
    io.BufferedReader(path.open("rb", buffering=0)).close()
    assert rig.held == []
    assert len(rig.verdicts) == 2


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_kept_alive_by_a_traceback_is_abandoned_when_that_goes(rig, path):
    def fail():
        file = path.open()
        raise ValueError(file.name)

    try:
        fail()
    except ValueError as error:
        kept = error
    assert reasons(rig) == []
    del kept
    assert reasons(rig) == ["abandoned"]


def test_a_whole_file_read_or_written_through_its_path_leaves_nothing(rig, path):
    path.write_text("a")
    path.write_bytes(path.read_bytes() + path.read_text().encode())
    assert reasons(rig) == []
    assert len(rig.recorder.released_handles) == 4
    assert rig.held == []


def test_a_spooled_file_is_held_from_its_rollover_on(rig):
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(b"short")
        assert rig.held == []
        file.write(b"long enough to roll over")
        assert [handle.site.frames[0][0].co_filename for handle in rig.held] == [__file__]
    assert rig.held == []
    assert reasons(rig) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_spooled_file_that_is_dropped_after_its_rollover_is_abandoned(rig):
    file = tempfile.SpooledTemporaryFile()
    file.write(b"anything")
    file.rollover()
    del file
    assert reasons(rig) == ["abandoned"]


@pytest.mark.parametrize("detached", [lambda path: path.open().detach(), lambda path: path.open("rb").detach()])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_detached_layer_still_dies_with_its_last_reference(rig, path, detached):
    thing = detached(path)
    number = thing.fileno()
    os.fstat(number)
    del thing
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert rig.held == []


def test_what_detaching_leaves_behind_keeps_nothing_alive_and_accuses_nobody(rig, path):
    text = path.open()
    buffer = text.detach()
    assert buffer.readline() == b"one\n"
    raw = buffer.detach()
    del text, buffer
    assert rig.held == []
    assert vars(raw) == {"name": str(path)}
    raw.close()
    rig.settle()
    assert rig.verdicts == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_detached_raw_that_is_dropped_is_closed_at_once_and_no_leak(rig, path):
    raw = path.open("rb").detach()
    number = raw.fileno()
    del raw
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert reasons(rig) == []


def test_what_is_not_to_be_closed_with_the_file_is_not_watched(rig, path):
    number = os.open(path, os.O_RDONLY)
    for arguments in (("r", -1), ("rb", -1), ("rb", 0)):
        file = open(number, *arguments, closefd=False)
        assert rig.held == []
        del file
    os.close(number)
    assert reasons(rig) == []


def test_what_was_open_before_is_never_reported(rig, path):
    FilesInstrumentor().uninstrument()
    before = path.open(), path.open("rb", buffering=0)
    FilesInstrumentor().instrument()
    rig.settle()
    for file in before:
        file.close()
    assert sys.stdin is not None
    assert rig.verdicts == []
    assert rig.recorder.released_handles == []

from __future__ import annotations

import mmap
import os

import pytest
from conftest import watching

from crawlo_otel_leaks import scope
from crawlo_otel_leaks.instrumentation.mmap import MmapInstrumentor
from crawlo_otel_leaks.settings import Settings

CLASS = mmap.mmap
SIZE = mmap.PAGESIZE


@pytest.fixture
def watched(rig):
    """Maps are watched."""
    with watching(rig, MmapInstrumentor()):
        yield rig


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "data.bin").open("w+b") as opened:
        opened.write(bytes(SIZE))
        opened.flush()
        yield opened


def test_a_map_is_held_under_the_name_of_its_file_until_it_is_closed(watched, file):
    made = mmap.mmap(file.fileno(), SIZE)
    (handle,) = watched.held
    assert (handle.kind, handle.label()) == ("file", f"mmap {file.name}")
    made.close()
    watched.settle()
    assert watched.held == []
    assert watched.verdicts == []


@pytest.mark.parametrize("settings", [Settings(capture_paths=False)])
def test_a_path_is_hidden_where_paths_are(watched, file, settings):
    with mmap.mmap(file.fileno(), SIZE):
        assert [handle.label() for handle in watched.held] == ["mmap *.bin"]


def test_it_explains_the_copy_of_the_descriptor(watched, file):
    before = set(watched.runtime.vitals._descriptors())
    with mmap.mmap(file.fileno(), SIZE):
        (copy,) = set(watched.runtime.vitals._descriptors()) - before
        (handle,) = watched.held
        assert list(handle.descriptors()) == [copy]
    assert list(handle.descriptors()) == []


def test_a_file_that_took_its_number_is_not_explained_by_it(watched, file):
    with mmap.mmap(file.fileno(), SIZE):
        (handle,) = watched.held
        (copy,) = handle.descriptors()
        handle.inode = (0, 0)
        assert list(handle.descriptors()) == []
    assert copy != file.fileno()


def test_to_drop_one_is_to_close_it(watched, file):
    mmap.mmap(file.fileno(), SIZE)
    watched.settle()
    assert watched.held == []
    assert watched.verdicts == []


def test_what_a_scope_leaves_open_is_its_leak(watched, file):
    with scope("job"):
        made = mmap.mmap(file.fileno(), SIZE)
        mmap.mmap(file.fileno(), SIZE).close()
    watched.settle()
    assert watched.verdicts == [("file", "scope_end")]
    made.close()


def test_one_of_no_file_has_nothing_to_leak(watched):
    with mmap.mmap(-1, SIZE):
        assert watched.held == []


def test_the_class_is_what_it_was(watched, file):
    with mmap.mmap(file.fileno(), SIZE) as made:
        assert type(made) is CLASS
        assert isinstance(made, mmap.mmap)
        assert repr(made).startswith("<mmap.mmap ")
    with pytest.raises(TypeError):
        mmap.mmap()
    with pytest.raises(OSError, match="Bad file descriptor"):
        mmap.mmap(os.sysconf("SC_OPEN_MAX") - 1, SIZE)


def test_a_class_derived_from_it_makes_its_own(watched, file):
    class Derived(mmap.mmap):
        def __new__(cls, size):
            return mmap.mmap.__new__(cls, -1, size)

    with Derived(SIZE) as made:
        assert type(made).__mro__[:2] == (Derived, CLASS)


def test_uninstrumented_nothing_of_ours_is_left(watched, file):
    made = mmap.mmap(file.fileno(), SIZE)
    MmapInstrumentor().uninstrument()
    assert mmap.mmap is CLASS
    assert watched.held == []
    made.close()

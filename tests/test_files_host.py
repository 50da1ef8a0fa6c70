"""The host program cannot tell: warnings, lifetimes and looks are as without us."""

from __future__ import annotations

import gc
import io
import os
import sys
import tempfile
import traceback
import warnings
import weakref

import pytest
from garbage import collect, found, hearing, settle


def drop_text(path):
    open(path)  # noqa: PTH123


def drop_by_name(path):
    file = open(path, "w")  # noqa: PTH123
    file.write("pending")
    del file


def drop_buffered(path):
    open(path, "r+b")  # noqa: PTH123


def drop_unbuffered(path):
    open(path, "rb", 0)  # noqa: PTH123


def drop_at_return(path):
    file = path.open("rb")
    file.read(1)


def drop_wrapped(path):
    io.TextIOWrapper(open(path, "rb"), encoding="utf-8")  # noqa: PTH123


def drop_wrapped_unbuffered(path):
    io.BufferedReader(open(path, "rb", 0))  # noqa: PTH123


def drop_detached(path):
    open(path).detach()  # noqa: PTH123


def drop_detached_raw(path):
    open(path, "rb").detach()  # noqa: PTH123


def drop_in_cycle(path):
    cycle = [open(path, "rb", 0)]  # noqa: PTH123
    cycle.append(cycle)
    del cycle
    gc.collect()  # here, for the warning names the line


def drop_temporary(path):
    tempfile.NamedTemporaryFile(dir=path.parent, prefix="same", suffix="name")


def close_explicitly(path):
    open(path).close()  # noqa: PTH123
    open(path, "rb", 0).close()  # noqa: PTH123


DROPS = [
    drop_text,
    drop_by_name,
    drop_buffered,
    drop_unbuffered,
    drop_at_return,
    drop_wrapped,
    drop_wrapped_unbuffered,
    drop_detached,
    drop_detached_raw,
    drop_in_cycle,
    drop_temporary,
    close_explicitly,
]
scenario = pytest.mark.parametrize("scenario", DROPS)


def warned(scenario, path):
    with hearing() as caught:
        scenario(path)
        collect()
    messages = (str(one.message).replace(str(one.source and getattr(one.source, "name", "")), "NAME") for one in caught)
    rest = [(one.category, one.filename, one.lineno, type(one.source).__name__) for one in caught]
    return [*zip(messages, rest, strict=True)]


def unraisable(scenario, path, monkeypatch):
    told = []

    def hook(args):
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(args.exc_traceback)]
        told.append((args.exc_type, str(args.exc_value), repr(args.object), args.err_msg, frames))

    collect()
    monkeypatch.setattr(sys, "unraisablehook", hook)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        scenario(path)
        collect()
    return told


@scenario
def test_warnings_are_the_same_text_of_the_same_line(instrumentor, path, scenario):
    untracked = warned(scenario, path)
    instrumentor.instrument()
    assert warned(scenario, path) == untracked
    if scenario not in (close_explicitly, drop_temporary):  # which warn nowhere, or from inside of tempfile
        assert [filename for _, (_, filename, _, _) in untracked] == [__file__]


@pytest.mark.parametrize("scenario", [one for one in DROPS if one is not drop_temporary])  # its name is random
def test_warnings_that_are_made_errors_are_told_the_same(instrumentor, path, monkeypatch, scenario):
    untracked = unraisable(scenario, path, monkeypatch)
    instrumentor.instrument()
    assert unraisable(scenario, path, monkeypatch) == untracked
    assert bool(untracked) == (scenario is not close_explicitly)


@scenario
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_is_left_for_the_collector(rig, instrumentor, path, scenario):
    settle()
    before = found()  # of a loop of uvloop's that nobody closed, no collection frees anything
    instrumentor.instrument()
    scenario(path)
    settle()
    gc.disable()
    try:
        if scenario is not drop_in_cycle:
            scenario(path)
        rig.runtime.tick()
        assert found() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("arguments", [("r",), ("rb",), ("w",), ("rb", 0)], ids=str)
def test_reference_counts_are_the_same(instrumentor, path, arguments):
    # What is below it has one more while it is open: the buffer below text, and the raw file.
    def counts():
        with open(path, *arguments) as file:  # noqa: PTH123
            before = sys.getrefcount(file)
        return before, *(sys.getrefcount(below) for below in (file, getattr(file, "buffer", None) or file))

    untracked = counts()
    instrumentor.instrument()
    assert counts() == untracked


@pytest.mark.parametrize("arguments", [("r",), ("rb",), ("rb", 0)], ids=str)
def test_a_closed_file_dies_with_its_last_reference(instrumentor, path, arguments):
    instrumentor.instrument()
    file = open(path, *arguments)  # noqa: PTH123
    raw = weakref.ref(getattr(getattr(file, "buffer", file), "raw", file))
    user = weakref.ref(file)
    file.close()
    del file
    assert user() is None
    assert raw() is None


@pytest.mark.parametrize("arguments", [("r",), ("rb",), ("wb",), ("r+b",), ("rb", 0), ("wb", 0)], ids=str)
def test_files_look_the_same(instrumentor, path, arguments):
    def look():
        with open(path, *arguments) as file:  # noqa: PTH123
            shown = repr(file), str(type(file)), file.mode, file.name
        return *shown, repr(file), file.closed

    untracked = look()
    instrumentor.instrument()
    assert look() == untracked


@pytest.mark.parametrize("arguments", [("r",), ("rb",), ("rb", 0)], ids=str)
def test_the_error_of_a_close_is_the_hosts(rig, instrumentor, path, arguments):
    instrumentor.instrument()
    file = open(path, *arguments)  # noqa: PTH123
    with open(file.fileno(), "rb", closefd=False):
        pass
    os.close(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.close()
    assert file.closed
    assert rig.held == []

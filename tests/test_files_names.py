"""The names of `open`: they stay one object, come back when uninstrumented, and others' wrappers are left alone."""

from __future__ import annotations

import copy
import functools
import gc
import io
import operator
import pathlib
import pickle
import tempfile

import pytest
import wrapt

builtin_open = open


def test_the_names_of_open_stay_one_object_and_come_back(instrumentor):
    instrumentor.instrument()
    assert io.open is open
    assert open is not builtin_open
    instrumentor.uninstrument()
    assert io.open is open is builtin_open
    assert not isinstance(vars(tempfile._TemporaryFileCloser)["__del__"], wrapt.ObjectProxy)
    accessor = getattr(pathlib, "_NormalAccessor", None)
    assert accessor is None or not isinstance(vars(accessor)["open"], wrapt.ObjectProxy)
    assert not [one for one in gc.callbacks if one.__module__.startswith("crawlo")]


def test_as_a_class_attribute_it_does_not_bind(instrumentor, path):
    instrumentor.instrument()

    class Loader:
        opener = open

    with Loader().opener(path) as file:
        assert file.read() == "one\ntwo\n"
    with Loader.opener(path) as file:
        assert file.read() == "one\ntwo\n"


def test_it_copies_pickles_and_shows_as_before(instrumentor, path):
    shown = repr(open)
    instrumentor.instrument()
    assert repr(open) == shown
    assert copy.copy(open) is open
    assert copy.deepcopy({"opener": open})["opener"] is open
    pickled = pickle.dumps(functools.partial(open, path))
    with pickle.loads(pickled)() as file:
        assert file.read() == "one\ntwo\n"
    assert b"crawlo" not in pickled
    instrumentor.uninstrument()
    assert pickle.loads(pickled).func is builtin_open


@pytest.mark.parametrize("arguments", [("r",), ("rb",), ("rb", 0)], ids=str)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_open_files_are_let_go_when_it_is_uninstrumented(rig, instrumentor, path, arguments):
    instrumentor.instrument()
    closed, dropped = open(path, *arguments), open(path, *arguments)  # noqa: PTH123
    captured = open
    instrumentor.uninstrument()
    assert rig.held == []
    raw = getattr(getattr(closed, "buffer", closed), "raw", closed)
    assert {*vars(raw)} - {"name", "_crawlo_handle"} == set()
    closed.close()
    del dropped
    captured(path).close()
    assert rig.held == []
    rig.runtime.tick()
    assert rig.verdicts == []
    assert rig.recorder.released_handles == []


def closure(calls):
    def wrap(inner):
        @functools.wraps(inner)
        def theirs(*args, **kwargs):
            calls.append("theirs")
            return inner(*args, **kwargs)

        return theirs

    return wrap


def proxy(calls):
    def theirs(wrapped, instance, args, kwargs):
        calls.append("theirs")
        return wrapped(*args, **kwargs)

    return lambda inner: wrapt.FunctionWrapper(inner, theirs)


@pytest.mark.parametrize("make", [closure, proxy])
def test_a_wrapper_put_on_before_stays_below(rig, instrumentor, path, monkeypatch, make):
    calls = []
    theirs = make(calls)(builtin_open)
    monkeypatch.setattr("builtins.open", theirs)
    instrumentor.instrument()
    with open(path):  # noqa: PTH123
        assert len(rig.held) == 1
    assert calls == ["theirs"]
    instrumentor.uninstrument()
    assert open is theirs


@pytest.mark.parametrize("make", [closure, proxy])
def test_a_wrapper_put_on_afterwards_stays_and_ours_below_is_inert(rig, instrumentor, path, monkeypatch, make):
    calls = []
    monkeypatch.setattr("builtins.open", builtin_open)  # what it is set back to afterwards
    instrumentor.instrument()
    theirs = make(calls)(open)
    monkeypatch.setattr("builtins.open", theirs)
    with open(path):  # noqa: PTH123
        assert len(rig.held) == 1
    instrumentor.uninstrument()
    assert open is theirs
    with open(path):  # noqa: PTH123
        assert rig.held == []
    assert calls == ["theirs", "theirs"]
    monkeypatch.setattr("builtins.open", builtin_open)
    assert operator.is_(io.open, builtin_open)

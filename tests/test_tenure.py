"""The numbers of a handle are the same in Python and in C; which of them it is, the environment says."""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest
from conftest import ACCELERATOR, accelerator

from crawlo_otel_leaks import tenure
from crawlo_otel_leaks.model import Handle

VARIABLE = "CRAWLO_OTEL_LEAKS_ACCELERATOR"


def chosen():
    """Return what the module would choose now."""
    return runpy.run_path(tenure.__file__)["Tenure"]


def in_c():
    return accelerator().Tenure


@pytest.fixture(params=["Python", "C"])
def handle(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    base = in_c() if request.param == "C" else chosen()
    return type("Own", (base,), {"__slots__": ("name",)})()


def test_times_are_numbers_and_not_there_before_they_came(handle):
    with pytest.raises(AttributeError, match="acquired_at"):
        _ = handle.acquired_at
    handle.acquired_at, handle.released_at = 0.0, None
    assert (handle.acquired_at, handle.released_at) == (0.0, None)
    handle.released_at = 1.5
    assert (handle.acquired_at, handle.released_at) == (0.0, 1.5)
    handle.released_at = None
    assert handle.released_at is None


def test_marks_are_set_each_by_itself(handle):
    handle.process = handle.shared = False
    handle.process = True
    assert (handle.process, handle.shared) == (True, False)
    handle.shared = True
    assert (handle.process, handle.shared) == (True, True)


def test_its_kind_is_what_it_was_told(handle):
    with pytest.raises(AttributeError, match="kind"):
        _ = handle.kind
    for kind in ("socket", "a socket"[2:], "own"):
        handle.kind = kind
        assert handle.kind == kind


def test_kinds_are_few_strings_in_c():
    handle = in_c()()
    for kind in (1, None):
        with pytest.raises(TypeError, match="string"):
            handle.kind = kind
    with pytest.raises(TypeError, match="string"):
        del handle.kind
    setting = "for number in range(300):\n handle.kind = f'kind {number}'"
    code = f"from {tenure.MODULE} import Tenure\nhandle = Tenure()\n{setting}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "'kind 255' found, of 255 kinds at most" in ended.stderr


def test_what_is_no_time_and_no_mark_is_refused_in_c():
    handle = in_c()()
    handle.acquired_at = 1.0
    with pytest.raises(TypeError):
        handle.acquired_at = "now"
    with pytest.raises(TypeError, match="cannot be deleted"):
        del handle.released_at
    with pytest.raises(TypeError):
        handle.process = 1
    assert (handle.acquired_at, handle.released_at, handle.process) == (1.0, None, False)


def test_the_environment_says_which(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    assert chosen() is in_c()
    monkeypatch.setenv(VARIABLE, "off")
    assert chosen() is not in_c()


@pytest.mark.parametrize("module", [None, object()])
def test_where_there_is_none_or_another_release_it_is_in_python(monkeypatch, module):
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setitem(sys.modules, tenure.MODULE, module)
    assert chosen().__module__ != tenure.MODULE


def test_handles_have_the_one_in_c_where_it_is_to_be_used():
    assert issubclass(Handle, in_c()) is ACCELERATOR

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import io
import logging
import sys
import tempfile

import aiohttp
import pytest
import wrapt
from opentelemetry.instrumentation.dependencies import DependencyConflictError

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.settings import Settings

REAL = [FilesInstrumentor, AiohttpInstrumentor]
LIBRARY = """
def lend():
    return 'book'

class Desk:
    def take_back(self):
        return 'thanks'
"""


class Counting(Instrumentor):
    """Watches an imaginary library: counts the calls of its functions."""

    def points(self, running):
        self.calls = []
        return [Point("imaginary", path, self.note, group) for path, group in self.paths]

    def note(self, wrapped, instance, args, kwargs):
        self.calls.append(wrapped.__name__)
        return wrapped(*args, **kwargs)

    paths = (("lend", ""), ("Desk.take_back", ""))


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Write the library, which is not imported yet."""
    (tmp_path / "imaginary.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: importlib.import_module("imaginary")
    sys.modules.pop("imaginary", None)


@pytest.fixture
def counting(rig):
    instrumentor = Counting()
    yield instrumentor
    instrumentor.paths = Counting.paths
    instrumentor.uninstrument()


def names():
    """Every name that ours patch in what is imported, and what it is now."""
    callbacks = gc.callbacks.copy()
    points = [point for kind in REAL for point in kind().points(runtime.Runtime(Settings()))]
    gc.callbacks[:] = callbacks  # nobody uninstruments what was asked for its table alone
    found = {}
    for point in points:
        if point.module in sys.modules:
            owner, name, _ = wrapt.resolve_path(sys.modules[point.module], point.path)
            found[point.module, point.path] = vars(owner)[name]
    return found


def test_uninstrument_restores_every_name(rig):
    before = names()
    for kind in REAL:
        kind().instrument()
    during = names()
    unpatched = [name for name, was in before.items() if during[name] is was]
    for kind in reversed(REAL):
        kind().uninstrument()
    after = names()
    assert unpatched == []
    assert [name for name, was in before.items() if after[name] is not was] == []
    assert builtins.open is io.open


def test_names_of_one_object_stay_names_of_one_object(rig):
    FilesInstrumentor().instrument()
    same = builtins.open is io.open
    FilesInstrumentor().uninstrument()
    assert same


def test_what_was_held_is_forgotten_and_left_as_it_was(rig, tmp_path):
    FilesInstrumentor().instrument()
    with (tmp_path / "held.txt").open("w") as file:
        tracked = len(rig.held)
        FilesInstrumentor().uninstrument()
        assert tracked == 1
        assert rig.held == []
        assert "close" not in vars(file.buffer.raw)
        file.write("still a file")
    assert (tmp_path / "held.txt").read_text() == "still a file"
    assert rig.runtime.finders == []


def test_instrument_works_again_after_uninstrument(rig, tmp_path):
    for _ in range(3):
        runtime._runtime = rig.runtime  # uninstrumenting the last one takes it down
        FilesInstrumentor().instrument()
        with tempfile.TemporaryFile(dir=tmp_path):
            assert len(rig.held) == 1
        FilesInstrumentor().uninstrument()
        with tempfile.TemporaryFile(dir=tmp_path):
            assert rig.held == []


def test_a_library_is_wrapped_when_the_program_imports_it_and_not_before(counting, library):
    counting.instrument()
    assert "imaginary" not in sys.modules
    imaginary = library()
    assert (imaginary.lend(), imaginary.Desk().take_back()) == ("book", "thanks")
    assert counting.calls == ["lend", "take_back"]


def test_a_library_imported_after_uninstrument_is_left_alone(counting, library):
    counting.instrument()
    counting.uninstrument()
    imaginary = library()
    assert not isinstance(imaginary.lend, wrapt.FunctionWrapper)


def by_wrapt(function, told):
    def note(wrapped, instance, args, kwargs):
        told.append("theirs")
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(function, note)


def by_closure(function, told):
    @functools.wraps(function)
    def note(*args, **kwargs):
        told.append("theirs")
        return function(*args, **kwargs)

    return note


@pytest.mark.parametrize("wrap", [by_wrapt, by_closure])
def test_a_wrapper_that_was_there_before_ours_is_restored(counting, library, wrap):
    imaginary, told = library(), []
    imaginary.lend = theirs = wrap(imaginary.lend, told)
    counting.instrument()
    assert imaginary.lend() == "book"
    counting.uninstrument()
    assert imaginary.lend is theirs
    assert (counting.calls, told) == (["lend"], ["theirs"])


@pytest.mark.parametrize("wrap", [by_wrapt, by_closure])
def test_a_wrapper_that_came_after_ours_stays_and_ours_falls_silent(counting, library, wrap):
    imaginary, told = library(), []
    counting.instrument()
    imaginary.lend = theirs = wrap(imaginary.lend, told)
    counting.uninstrument()
    assert imaginary.lend is theirs
    assert imaginary.lend() == "book"
    assert (counting.calls, told) == ([], ["theirs"])


@pytest.mark.parametrize("wrap", [by_wrapt, by_closure])
def test_one_call_is_seen_once_when_instrumented_again_over_theirs(rig, counting, library, wrap):
    imaginary, told = library(), []
    counting.instrument()
    imaginary.lend = theirs = wrap(imaginary.lend, told)
    counting.uninstrument()
    runtime._runtime = rig.runtime
    counting.instrument()
    assert imaginary.lend() == "book"
    assert (counting.calls, told) == (["lend"], ["theirs"])
    counting.uninstrument()
    assert imaginary.lend is theirs


def test_a_bound_method_taken_while_instrumented_falls_silent_too(counting, library):
    counting.instrument()
    taken = library().Desk().take_back
    counting.uninstrument()
    assert taken() == "thanks"
    assert counting.calls == []


def test_a_name_that_another_release_lacks_leaves_the_rest_working(rig, counting, library, caplog):
    counting.paths = (("no_such", ""), ("Desk.no_such", ""), ("no_such", ""), ("lend", ""))
    counting.instrument()
    assert library().lend() == "book"
    assert counting.calls == ["lend"]
    assert rig.runtime.tracker.errors == 3
    told = [record.getMessage() for record in caplog.records]
    assert [name for name in told if "imaginary.no_such" in name] == told[:1]
    assert len(told) == 2  # each name once
    rig.runtime.tracker.errors = 0


def test_without_its_end_the_beginning_of_a_handle_is_not_watched(rig, counting, library):
    counting.paths = (("give_back", "book"), ("lend", "book"), ("Desk.take_back", "desk"))
    counting.instrument()
    imaginary = library()
    assert (imaginary.lend(), imaginary.Desk().take_back()) == ("book", "thanks")
    assert counting.calls == ["take_back"]
    assert rig.runtime.tracker.errors == 1
    rig.runtime.tracker.errors = 0


def test_a_connection_that_could_not_be_seen_released_is_not_watched_while_sessions_are(rig, monkeypatch):
    monkeypatch.setattr(aiohttp.connector, "Connection", object)
    connect = vars(aiohttp.connector.BaseConnector)["connect"]
    AiohttpInstrumentor().instrument()
    watched = vars(aiohttp.ClientSession)["__init__"], vars(aiohttp.connector.BaseConnector)["connect"]
    AiohttpInstrumentor().uninstrument()
    assert isinstance(watched[0], wrapt.FunctionWrapper)
    assert watched[1] is connect
    assert rig.runtime.tracker.errors == 1
    rig.runtime.tracker.errors = 0


class Unruly(Instrumentor):
    """Fails while it sets itself up."""

    def points(self, running):
        running.finders.append(lambda thing: None)
        raise RuntimeError("no table today")


def test_a_failing_setup_stays_inert_and_raises_nothing(rig, caplog):
    Unruly().instrument(skip_dep_check=True)
    assert [record.getMessage() for record in caplog.records] == [
        "crawlo_otel_leaks: Unruly stays inert: RuntimeError('no table today')"
    ]
    assert runtime.current() is None  # it was the only user
    Unruly().uninstrument()


class HalfWay(Counting):
    """Fails after its first wrap."""

    _instance = None  # the base class keeps one instance, which subclasses would share

    def _when_imported(self, point, running):
        if point.path != "lend":
            raise RuntimeError("that far")
        super()._when_imported(point, running)


def test_a_setup_that_fails_half_way_takes_back_what_it_wrapped(rig, library, caplog):
    lend = library().lend
    HalfWay().instrument()
    assert "stays inert" in caplog.text
    assert library().lend is lend
    HalfWay().uninstrument()


class Demanding(Counting):
    """Watches a library that nobody has installed."""

    _instance = None
    requires = "no-such-library-at-all >= 1"


def test_a_missing_library_is_a_conflict_also_when_the_loader_skips_the_check(rig):
    with pytest.raises(DependencyConflictError, match="no-such-library-at-all"):
        Demanding().instrument(skip_dep_check=True)
    assert Demanding().instrumentation_dependencies() == ("no-such-library-at-all >= 1",)
    Demanding().uninstrument()


@pytest.mark.parametrize(("name", "value"), [("ENABLED", "false"), ("LEVEL", "off")])
def test_switched_off_nothing_is_wrapped_and_nothing_runs(monkeypatch, name, value):
    monkeypatch.setenv(f"CRAWLO_OTEL_LEAKS_{name}", value)
    before = names()
    for kind in REAL:
        kind().instrument()
    during = names()
    for kind in REAL:
        kind().uninstrument()
    assert [name for name, was in before.items() if during[name] is not was] == []
    assert runtime.current() is None


def test_what_stays_wrapped_is_told_to_who_asks(counting, library, caplog):
    counting.instrument()
    imaginary = library()
    imaginary.lend = by_closure(imaginary.lend, [])
    with caplog.at_level(logging.INFO, "crawlo_otel_leaks"):
        counting.uninstrument()
    assert "stays wrapped, inert" in caplog.text

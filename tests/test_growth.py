from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
from garbage import collect, freeze

from crawlo_otel_leaks import growth, process
from crawlo_otel_leaks.growth import Growth
from crawlo_otel_leaks.referrers import referrers
from crawlo_otel_leaks.settings import Settings

WINDOW = 60.0
KEPT = []


class Page:
    """What the leaky program keeps."""

    def __init__(self, body=None):
        self.body = body


class Shop:
    def __init__(self):
        self.pages = []


@pytest.fixture(autouse=True)
def nothing_kept():
    """Nor frozen: who keeps what is asked of the garbage collector, which forgets what is."""
    KEPT.clear()
    gc.unfreeze()
    yield
    KEPT.clear()
    freeze()
    assert not tracemalloc.is_tracing()


def censuses(*counts):
    """The types as successive censuses see them."""
    return iter(counts).__next__


def window(made, start=0.0):
    """Open a window because memory grows, and see it close."""
    assert made.look(start, growing=True) is None
    assert made.look(start + WINDOW / 2, growing=False) is None
    return made.look(start + WINDOW, growing=False)


def test_nothing_is_traced_unless_it_is_asked_for_and_memory_grows():
    quiet = Growth(WINDOW, types=lambda: pytest.fail("no census"))
    assert quiet.look(0.0, growing=False) is None
    unasked = Growth(0.0, types=lambda: pytest.fail("no census"))
    assert unasked.look(0.0, growing=True) is None
    assert not tracemalloc.is_tracing()
    assert Settings().memory_window == 0.0


def test_the_line_that_allocates_most_of_what_stays_is_named():
    made = Growth(WINDOW, types=dict)
    made.look(0.0, growing=True)
    KEPT.append([bytearray(1000) for _ in range(1000)])
    gone = [bytearray(1000) for _ in range(3000)]
    del gone
    (top, *_) = made.look(WINDOW, growing=True).sites
    assert (top["file"], top["line"]) == (__file__, line_of("KEPT.append([bytearray"))
    assert 1_000_000 <= top["growth_bytes"] < 1_300_000
    assert top["count"] >= 1000
    assert not tracemalloc.is_tracing()


def line_of(text):
    with Path(__file__).open() as source:
        return next((number for number, line in enumerate(source, 1) if text in line), None)


def test_after_a_window_the_program_rests_for_ten():
    made = Growth(WINDOW, types=dict)
    assert window(made) is not None
    assert made.look(WINDOW + 1, growing=True) is None
    assert not tracemalloc.is_tracing()
    assert window(made, start=WINDOW * 11) is not None


def test_a_program_that_traces_itself_goes_on_tracing():
    tracemalloc.start()
    made = Growth(WINDOW, types=dict)
    assert window(made).sites == []
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


def test_a_stop_in_the_midst_of_a_window_stops_the_tracing():
    made = Growth(WINDOW, types=dict)
    made.look(0.0, growing=True)
    assert tracemalloc.is_tracing()
    made.stop()
    assert not tracemalloc.is_tracing()


def test_types_that_grow_by_more_than_an_estimate_may_err_are_named_the_fastest_first():
    before = {"app.Page": 100, "app.Row": 10_000, "builtins.dict": 50_000, "app.Steady": 700}
    after = {"app.Page": 5_100, "app.Row": 10_300, "builtins.dict": 90_000, "app.Steady": 700, "app.New": 4_000}
    found = window(Growth(WINDOW, types=censuses(before, after))).types
    assert [(one["type"], one["first"], one["last"], one["growth"]) for one in found] == [
        ("builtins.dict", 50_000, 90_000, 40_000),
        ("app.Page", 100, 5_100, 5_000),
        ("app.New", 0, 4_000, 4_000),
    ]


def test_the_fastest_growing_type_of_the_programs_own_gets_a_sample_of_who_keeps_it():
    KEPT.extend(Page() for _ in range(3_000))
    name = process.type_name(Page)
    before, after = {"builtins.dict": 1}, {"builtins.dict": 9_000, name: 3_000}
    found = {one["type"]: one["referrers"] for one in window(Growth(WINDOW, types=censuses(before, after))).types}
    assert found == {"builtins.dict": [], name: ["builtins.list", f"{__name__}.KEPT"]}


def test_a_chain_goes_through_objects_and_says_nothing_of_what_is_in_them():
    shop = Shop()
    shop.pages.append(Page("secret"))
    KEPT.append({"secret": shop})
    chain = referrers(process.type_name(Page))
    assert chain[0] == "builtins.list"
    assert process.type_name(Shop) in chain
    assert "secret" not in str(chain)
    assert len(chain) <= 5


def test_a_closure_and_the_function_that_keeps_it_are_named():
    page = Page()
    KEPT.append(lambda: page)
    assert referrers(process.type_name(Page))[0] == "closure"
    assert any("<lambda>" in one or one == "builtins.tuple" for one in referrers(process.type_name(Page)))


def test_a_class_that_keeps_it_is_named(monkeypatch):
    monkeypatch.setattr(Shop, "first", Page(), raising=False)
    assert f"class {process.type_name(Shop)}" in referrers(process.type_name(Page))


def test_what_nobody_keeps_and_what_does_not_exist_has_no_chain():
    assert referrers("nobody.Nothing") == ()
    collect()
    assert referrers(process.type_name(Page)) == ()


def test_memory_that_grows_is_told_in_an_event_and_in_the_report(rig, telemetry, monkeypatch):
    KEPT.extend(Page() for _ in range(3_000))
    name = process.type_name(Page)
    rig.runtime.growth = Growth(WINDOW, types=censuses({name: 1}, {name: 3_001}))
    monkeypatch.setattr(rig.runtime.vitals, "look", lambda *args, **kwargs: None)
    rig.runtime.vitals.growing = True
    rig.pass_time(1)
    KEPT.append(bytearray(growth.LEAST * 2))
    rig.pass_time(WINDOW)
    (event,) = telemetry.events("crawlo.memory.growth")
    assert event.attributes["crawlo.memory.window"] == WINDOW
    assert event.attributes["crawlo.memory.types"] == (f"{name} +3000 (1 to 3001)",)
    assert event.attributes["crawlo.memory.referrers"] == ("builtins.list", f"{__name__}.KEPT")
    assert any(__file__ in one for one in event.attributes["crawlo.memory.sites"])
    told = rig.runtime.report().process
    assert [one["type"] for one in told["type_changes"]] == [name]
    assert told["memory_sites"]


def test_a_detector_that_stops_leaves_no_tracing_behind(rig):
    rig.runtime.growth = Growth(WINDOW, types=dict)
    rig.runtime.growth.look(0.0, growing=True)
    rig.runtime.stop()
    assert not tracemalloc.is_tracing()

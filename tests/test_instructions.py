"""The comparison of instruction counts: what it reads, what it accepts, what it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
POOL = "pool take + give back"


@pytest.fixture
def instructions(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import instructions  # noqa: PLC0415  (a script beside the package)

    return instructions


def test_a_path_that_grew_by_more_than_the_margin_is_told(instructions):
    measured = {POOL: instructions.Count(1000, 12_200)}
    assert instructions.grown(measured, {POOL: 10_000}, 0.10) == [POOL]


@pytest.fixture
def baseline(instructions, monkeypatch, tmp_path):
    """The pool path took 10 000 of its own, in the same environment."""
    monkeypatch.setattr(instructions, "baseline_path", lambda: tmp_path / "3.13.json")
    monkeypatch.setattr(instructions, "identity", lambda: {"python": "3.13.0"})
    (tmp_path / "3.13.json").write_text(json.dumps({"made with": {"python": "3.13.0"}, "own": {POOL: 10_000}}))


@pytest.mark.parametrize(("more", "code"), [([13_000, 12_200, 12_300], 1), ([13_000, 11_900, 12_100], 0)])
@pytest.mark.usefixtures("baseline")
def test_what_seems_to_have_grown_is_counted_again_and_the_least_is_judged(instructions, capsys, more, code):
    counts = dict(zip(instructions.SHIFTS, more, strict=True))
    measured = {POOL: instructions.Count(1000, 12_500)}
    assert instructions.compare(measured, lambda _, shift: instructions.Count(1000, counts.pop(shift))) == code
    assert not counts
    told = f"GROWN by more than 10%: {POOL}: 11200 instructions, 10000 in the baseline\n"
    assert capsys.readouterr().err == (told if code else "")


@pytest.mark.usefixtures("baseline")
def test_what_has_not_grown_is_counted_once(instructions):
    assert instructions.compare({POOL: instructions.Count(1000, 11_000)}, None) == 0


def test_a_path_within_the_margin_is_not(instructions):
    measured = {POOL: instructions.Count(1000, 11_900)}
    assert not instructions.grown(measured, {POOL: 10_000}, 0.10)


def test_what_the_host_itself_needs_is_not_ours(instructions):
    measured = {POOL: instructions.Count(50_000, 60_000)}
    assert not instructions.grown(measured, {POOL: 10_000}, 0.10)


def test_parts_and_new_paths_are_not_judged(instructions):
    count = instructions.Count(0, 1e6)
    assert not instructions.grown({"part: x": count, "new": count}, {"part: x": 1}, 0.10)


def test_what_is_counted_alone_leaves_the_rest_of_the_baseline(instructions, monkeypatch, tmp_path):
    here = {"python": "3.13.0"}
    monkeypatch.setattr(instructions, "baseline_path", lambda: tmp_path / "3.13.json")
    monkeypatch.setattr(instructions, "identity", lambda: here)

    def updated(**own):
        instructions.update({name: instructions.Count(0, count) for name, count in own.items()})
        return json.loads((tmp_path / "3.13.json").read_text())["own"]

    assert updated(one=1, other=2) == {"one": 1, "other": 2}
    assert updated(one=3) == {"one": 3, "other": 2}
    here["python"] = "3.13.1"
    assert updated(one=4) == {"one": 4}


def test_an_operation_is_the_difference_of_two_rounds(instructions):
    start_up = 7_000
    rounds = [{"f": start_up + 512 * 10}, {"f": start_up + 1024 * 10}, {}, {"f": 512 * 25}, {"f": 1024 * 25}]
    count = instructions.count([instructions.Counter(one) for one in rounds], 512)
    assert (count.plain, count.tracked, count.own) == (10, 25, 15)


def test_functions_have_what_they_cost_themselves_not_what_they_call(instructions, tmp_path):
    dump = tmp_path / "callgrind.out.2"
    dump.write_text(
        dedent(
            """\
            events: Ir
            fn=(1) dict_get
            10 300
            +2 4
            cfn=(2) malloc
            calls=3 +5
            * 9000
            fn=(2)
            * 70
            fn=(1)
            -1 6
            fn=(3) eval'2
            5 1
            """,
        ),
        encoding="utf-8",
    )
    assert instructions.functions(dump) == {"dict_get": 310, "malloc": 70, "eval": 1}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_counting_twice_gives_the_same_within_a_hundredth(instructions):
    counts = [instructions.count(instructions.run(POOL, "sampled"), instructions.hotpath.LOOPS) for _ in range(2)]
    assert counts[0].own == pytest.approx(counts[1].own, rel=0.01)
    assert counts[0].own > 1000


@pytest.mark.slow
def test_every_hot_path_runs_and_fails_nothing(instructions):
    for name in instructions.hotpaths.PATHS:
        done = subprocess.run([sys.executable, BENCHMARKS / "hotpaths.py", name], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr

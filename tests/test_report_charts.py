"""The charts of the page as a browser draws them."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
from browser import draw
from report_samples import QUANTITIES, mixed, process, report, run

from crawlo_otel_leaks.report import html
from crawlo_otel_leaks.report.html import Page

pytestmark = pytest.mark.slow
ENGLISH = Page(lang="en")
# Every text of a chart: within its drawing, and on top of no other.
LABELS = """
const told = [];
for (const svg of all('figure svg')) {
  const whole = svg.viewBox.baseVal, texts = [...svg.querySelectorAll('text')];
  const boxes = texts.map(text => [text.textContent, text.getBBox()]);
  for (const [name, box] of boxes) {
    const right = box.x + box.width, bottom = box.y + box.height;
    if (box.x < 0 || box.y < 0 || right > whole.width || bottom > whole.height) told.push('cut off: ' + name);
    for (const [other, beside] of boxes) {
      if (box !== beside && box.x < beside.x + beside.width && beside.x < right &&
        box.y < beside.y + beside.height - 4 && beside.y < bottom - 4) told.push(name + ' on ' + other);
    }
  }
  const shrunk = svg.getBoundingClientRect().width / whole.width;
  if (Math.abs(shrunk - 1) > 0.02) told.push('scaled by ' + shrunk);
}
tell('[' + JSON.stringify({width: contentWindow.innerWidth, charts: all('figure svg').length, told}) + ']')"""
OPEN = """
const values = page.getElementById('values');
values.open = true;
const count = what => values.querySelectorAll(what).length;
values.addEventListener('toggle', () => setTimeout(() => tell(
  '[' + [count('tbody tr'), count('thead th'), values.querySelector('tbody tr').textContent].join('|') + ']')))"""
PRINT = """
contentWindow.dispatchEvent(new Event('beforeprint'));
tell('[' + all('details').map(one => one.id + one.open).join(' ') + ']')"""
SWITCH = """
page.querySelector('[lang=zh]').click();
tell('[' + all('figcaption')[0].textContent + ' ' + page.querySelector('figure svg title').textContent + ']')"""
POINT = """
const svg = page.querySelector('figure svg'), box = svg.getBoundingClientRect();
const shown = () => all('figcaption .soft')[0].textContent;
svg.dispatchEvent(new contentWindow.PointerEvent('pointermove', {clientX: box.right, clientY: box.top + 50}));
const over = shown();
svg.dispatchEvent(new contentWindow.PointerEvent('pointerleave'));
tell('[' + over + '|' + shown() + ']')"""


@pytest.fixture
def drawn(tmp_path):
    return partial(draw, tmp_path)


def figures(dom):
    return [attrs["class"] for tag, attrs in dom.elements if tag == "figure"]


def texts(dom, tag):
    return [data for name, data in dom.texts if name == tag]


def marks(dom):
    kinds = [attrs["class"] for tag, attrs in dom.elements if tag == "line"]
    charts = len(figures(dom))
    return kinds.count("mark start") / charts, kinds.count("mark end") / charts


def test_each_quantity_that_is_ever_more_than_zero_has_a_chart_and_the_others_are_named(drawn):
    dom = drawn(report(process=process(60)), ENGLISH)
    assert figures(dom) == ["growing", *["stable"] * 6]
    assert "Zero throughout: Descriptors without a handle, Redis connections held." in dom.seen
    assert "Memory (RSS) growing120.0 MiB → 179.0 MiB" in dom.seen
    assert "minutes since the beginning" in texts(dom, "text")
    assert "MiB" in texts(dom, "text")


def test_a_chart_says_in_words_what_it_shows(drawn):
    dom = drawn(report(process=process(60)), ENGLISH)
    labels = [attrs["aria-labelledby"].split() for tag, attrs in dom.elements if tag == "svg" and "role" in attrs]
    named = {attrs["id"]: tag for tag, attrs in dom.elements if tag in ("title", "desc") and "id" in attrs}
    assert [tuple(map(named.get, ids)) for ids in labels] == [("title", "desc")] * 7
    assert "Memory (RSS) over time" in texts(dom, "title")
    told = "From 120.0 MiB to 179.0 MiB within 14 min 45 s; lowest 120.0 MiB, highest 179.0 MiB. Trend: growing."
    assert told in texts(dom, "desc")


def test_what_grows_is_told_with_slope_confidence_and_time_left(drawn):
    told = drawn(report(process=process(60)), ENGLISH).seen
    assert "Growing: Memory (RSS) +4.0 MiB/min." in told
    assert "Memory (RSS) +4.0 MiB/min, 99.8 % sure, limit reached in 2 h 0 min" in told
    assert "Memory (RSS)120.0 MiB179.0 MiB+59.0 MiBgrowing" in told
    assert "Threads990stable" in told


def test_runs_are_marked_in_every_chart_and_listed(drawn):
    dom = drawn(report(process=process(60), runs=[run(0), run(2), run(5)]), ENGLISH)
    assert marks(dom) == (3, 3)
    assert "Vertical marks are spider runs" in dom.seen
    told = r"2newsrun-2leaks32 handlesfinished2001 min 30 s\d{4}-\d\d-\d\d \d\d:\d\d:20"
    assert re.search(told + "db.connection.2, task.30120.0 MiB → 130.0 MiB", dom.seen)


def test_a_run_that_goes_on_has_no_end_and_earlier_ones_are_counted(drawn):
    alive = run(
        1, duration_s=None, outcome="running", pages=None, verdict="insufficient_data", leaks=0, open={}, after=None
    )
    dom = drawn(
        report(process=process(30), runs=[run(outcome="failed", error="OSError"), alive], runs_left_out=5), ENGLISH
    )
    assert marks(dom) == (2, 1)
    assert {"6", "7"} <= set(texts(dom, "text"))
    assert re.search(r"7newsrun-1not judged yetrunning––\d{4}-\d\d-\d\d \d\d:\d\d:40––", dom.seen)
    assert "failedOSError" in dom.seen
    assert "5 earlier runs found no place in the report." in dom.seen


def test_runs_too_many_to_be_told_apart_are_thinned_out(drawn):
    dom = drawn(report(process=process(240), runs=[run(number, 10.0) for number in range(350)]), ENGLISH)
    begun, ended = marks(dom)
    assert 20 < begun < 60
    assert ended == 0


def test_without_runs_there_are_no_marks(drawn):
    dom = drawn(report(process=process(30)), ENGLISH)
    assert marks(dom) == (0, 0)
    assert "Vertical marks" not in dom.seen


@pytest.mark.parametrize(("count", "dots"), [(1, 1), (2, 2), (40, 40), (41, 0)])
def test_few_points_are_dots_too(drawn, count, dots):
    dom = drawn(report(process=process(count)), ENGLISH)
    assert sum(tag == "circle" for tag, _ in dom.elements) == dots * len(figures(dom)) > 0 or not dots


def test_what_is_not_known_leaves_a_gap_and_what_never_was_has_no_chart(drawn):
    block = process(60)
    for point in block["series"]:
        point["sockets"] = None
        del point["threads"]
    block["series"][20]["rss"] = None
    dom = drawn(report(process=block), ENGLISH)
    assert len(figures(dom)) == 5
    lines = [attrs["d"].count("M") for tag, attrs in dom.elements if tag == "path"]
    assert lines == [2, 1, 1, 1, 1]


def test_an_empty_process_block_shows_nothing(drawn):
    dom = drawn(report(), ENGLISH)
    assert figures(dom) == []
    assert "Trends" in dom.seen
    hidden = [attrs.get("id") for _, attrs in dom.elements if "hidden" in attrs]
    assert {"trends", "grows", "types", "sites", "runs"} <= set(hidden)


def odd(**points):
    block = process(5)
    for name, values in points.items():
        for point, value in zip(block["series"], values, strict=True):
            point[name] = value
    return block


CASES = {
    "one point": process(1),
    "two points": process(2, 3.2),
    "an instant": process(2, 0.001),
    "days": process(240, 7200.0),
    "constant": odd(rss=[5 * 2**30] * 5, fds=[1] * 5),
    "tiny and huge": odd(rss=[1, 2, 3, 4, 5], objects=[10**12 * n for n in range(5)], fds=[0, 0, 0, 0, 1]),
    "steep": odd(rss=[2**20, 2**34, 2**20, 2**33, 2**20], tasks=[1, 10**6, 3, 4, 5]),
    "runs alone": {**process(2, 3.2)},
}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("lang", html.LANGUAGES)
@pytest.mark.parametrize("case", CASES)
def test_labels_are_whole_and_readable_whatever_the_series(drawn, case, lang, width):
    runs = [run(number, 60.0) for number in range(120 if case == "runs alone" else 0)]
    dom = drawn(report(process=CASES[case], runs=runs), Page(lang=lang), LABELS, width)
    (found,) = json.loads(re.search(r"\[\{.*\}\]", dom.seen)[0])
    assert found["told"] == []
    assert found["width"] == width
    assert found["charts"] >= 5


@pytest.mark.parametrize("case", CASES)
def test_no_number_of_a_chart_is_none(drawn, case):
    dom = drawn(report(process=CASES[case], runs=[run()]), ENGLISH)
    drawings = ("svg", "line", "path", "circle", "rect", "text")
    for tag, attrs in dom.elements:
        assert tag not in drawings or not re.search("NaN|Infinity|undefined|-0(?![.\\d])", str(attrs)), (tag, attrs)
    assert not {"-0", "−0", "NaN"} & set(texts(dom, "text"))


def test_all_values_are_there_as_a_table_when_asked_for(drawn):
    dom = drawn(report(process=process(50)), ENGLISH, OPEN)
    count, columns, first = re.search(r"\[(\d+)\|(\d+)\|(.*?)\]", dom.seen).groups()
    assert (int(count), int(columns)) == (50, 1 + len(QUANTITIES))
    assert first.endswith("120.0 MiB450,00048012930" + "00")
    assert "<tr" not in str(drawn(report(process=process(50)), ENGLISH).elements)


def test_printing_opens_every_stack_and_leaves_the_long_table_out(drawn):
    dom = drawn(mixed(), ENGLISH, PRINT)
    assert re.search(r"\[(.*)\]", dom.seen)[1].split() == ["true"] * 3 + ["valuesfalse"] + ["true"] * 2


def test_charts_speak_the_language_chosen(drawn):
    dom = drawn(report(process=process(30)), ENGLISH, SWITCH)
    assert "[内存（RSS） 持续增长120.0 MiB → 149.0 MiB 内存（RSS）随时间的变化]" in dom.seen


def test_the_value_under_the_pointer_is_told(drawn):
    over, after = re.search(r"\[(.*)\]", drawn(report(process=process(30)), ENGLISH, POINT).seen)[1].split("|")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +149\.0 MiB", over)
    assert after == "120.0 MiB → 149.0 MiB"

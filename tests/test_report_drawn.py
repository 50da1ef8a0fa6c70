"""The page as a browser draws it: verdict, leaks, languages, filter."""

from __future__ import annotations

import re
from functools import partial

import pytest
from browser import draw
from report_samples import HOSTILE, entry, frame, group, hostile, mixed, process, report, run, shortage

from crawlo_otel_leaks.report import html
from crawlo_otel_leaks.report.html import Page
from crawlo_otel_leaks.report.reasons import REASONS

pytestmark = pytest.mark.slow


@pytest.fixture
def drawn(tmp_path):
    return partial(draw, tmp_path)


MEASURE = """
for (const one of all('details')) one.open = true;
tell('[' + contentWindow.innerWidth + ' ' + page.documentElement.scrollWidth + ']')"""
SIFT = """
const sift = (id, value) => {
  page.getElementById(id).value = value;
  page.getElementById(id).dispatchEvent(new Event('input', {bubbles: true}));
  const rows = all('.leak:not([hidden]) .verdict:not([hidden])');
  const left = rows.map(({entry}) => entry.fingerprint.at(-1) + entry.reason);
  tell('[' + left + ' ' + page.getElementById('shown').textContent + ']');
};
sift('text', 'PAGE-3'); sift('text', 'nowhere'); sift('text', ''); sift('reason', 'held_too_long')"""
SWITCH = """
const zh = page.querySelector('[lang=zh]');
zh.click();
tell([page.title, page.documentElement.lang, page.activeElement.textContent].join('|'))"""


def test_the_drawn_page_tells_verdict_leaks_and_what_does_not_count(drawn):
    dom = drawn(mixed(), Page(trace_url="http://localhost:16686/trace/{trace_id}", lang="en"))
    told = dom.seen
    assert "Leaks detectedNot released: 5 handles from 2 places." in told
    assert [told.index(f"{number:016x}Copy") for number in (1, 2, 3, 4)] == sorted(
        told.index(f"{number:016x}Copy") for number in (1, 2, 3, 4)
    )
    assert told.index("Not counted as leaks") < told.index("Resolved1 handle") < told.index("Slow1 handle")
    assert told.count(REASONS["abandoned"].why) == 1
    links = [attrs["href"] for tag, attrs in dom.elements if tag == "a"]
    assert f"http://localhost:16686/trace/{1:032x}" in links
    assert "5 of 5 shown" in told
    assert [attrs["class"] for tag, attrs in dom.elements if tag == "article"].count("shortage") == 1
    assert "connections of pool db:5432/app2 times" in told
    assert "15 of 15 held when somebody last waited 5.0 s in vain." in told
    assert "12app/views.py:42 get_user (owner finished)5 min 12 s" in told


def test_the_drawn_page_of_a_healthy_program_accuses_nobody(drawn):
    dom = drawn(report(), Page(lang="en"))
    assert "HealthyNo leak was found." in dom.seen
    assert dom.count("article") == 0
    hidden = [attrs.get("id") for _, attrs in dom.elements if "hidden" in attrs]
    assert [one for one in hidden if one != "canvas"] == [
        "tools",
        "ran-out",
        "grows",
        "trends",
        "types",
        "sites",
        "runs",
        "aside",
    ]


def test_the_drawn_page_speaks_chinese(drawn):
    told = drawn(mixed(), Page(lang="zh")).seen
    assert "检测到泄漏5 个句柄未释放" in told
    assert "Leaks detected" not in told


def test_in_the_drawn_page_a_hostile_report_is_text_and_nothing_of_it_runs(drawn):
    dom = drawn(hostile(), Page(lang="en"))
    assert dom.seen.count(HOSTILE) > 15
    assert f"{1:016x}" in dom.seen
    assert dom.count("img") == 0
    assert dom.count("script") == 4
    title = "".join(data for tag, data in dom.texts if tag == "title")
    assert title.startswith("Leaks detected · Leak report")
    assert "injected" not in title


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("lang", html.LANGUAGES)
def test_the_drawn_page_needs_no_sideways_scrolling(drawn, width, lang):
    path = "/srv/" + "very-long-directory-name/" * 12 + "x" * 200 + ".py"
    long = entry(name=path, site=frame("f" * 150, file=path, text="y" * 300), stack=[frame(file=path)] * 3)
    ran_out = shortage(what="w" * 200, holders=[group(where=path, trace_id=f"{7:032x}")] * 12)
    types = [{"type": "m." * 60, "first": 1, "last": 2, "growth": 1, "referrers": ["dict"] * 40}]
    sites = [{"file": path, "line": 1, "growth_bytes": 10**9, "count": 10**6}]
    block = process(60, type_changes=types, memory_sites=sites)
    leaks = (long, entry(2, owner={"task": "t" * 200}, holds=[path]))
    there = report(*leaks, shortages=[ran_out], process=block, runs=[run(spider="s" * 99)])
    dom = drawn(there, Page(lang=lang), MEASURE, width)
    found = re.search(r"\[(\d+) (\d+)\]", dom.seen)
    assert found, "the page in the frame was not measured"
    assert int(found[1]) == width
    assert int(found[2]) <= width


def test_the_drawn_page_can_be_filtered_by_text_and_by_verdict(drawn):
    told = drawn(mixed(), Page(lang="en"), SIFT).seen
    assert re.findall(r"\[(.*?)\]", told) == [
        "3scope_end 1 of 5 shown",
        " 0 of 5 shown",
        "1abandoned,2owner_finished,2held_too_long,3scope_end,4slow 5 of 5 shown",
        "2held_too_long 1 of 5 shown",
    ]


def test_the_drawn_page_can_be_switched_to_the_other_language(drawn):
    assert "检测到泄漏 · 泄漏报告|zh|中文" in drawn(mixed(), Page(lang="en"), SWITCH).seen

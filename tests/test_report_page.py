from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib import resources

import pytest
from report_samples import HOSTILE, entry, frame, group, mixed, report, shortage

from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.report import html, write
from crawlo_otel_leaks.report.html import Page
from crawlo_otel_leaks.report.reasons import REASONS

TEMPLATE = resources.files(html.__package__).joinpath("page.html").read_text(encoding="utf-8")
STATUSES = {"healthy", "leak_detected", "insufficient_data"}
VOID = {"meta", "input", "img", "br"}


class Dom(HTMLParser):
    """Elements and texts of a page, as a browser would take them apart."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)

    def scripts(self):
        return [data for tag, data in self.texts if tag == "script"]

    @property
    def seen(self):
        """What a reader can see, without what styles hide."""
        return "".join(data for tag, data in self.texts if tag not in ("script", "style", "noscript", "title"))


def hostile():
    """A report with the hostile text wherever a text can be."""
    bad = frame(HOSTILE, file=HOSTILE, text=HOSTILE)
    owner = dict.fromkeys(("spider", "run_id", "task", "thread", "scope"), HOSTILE)
    everywhere = entry(name=HOSTILE, site=bad, stack=[bad], owner=owner, trace_id=HOSTILE, span_id=HOSTILE)
    odd = entry(2, kind=HOSTILE, reason=HOSTILE, fingerprint=HOSTILE)
    handles = {"by_kind": {HOSTILE: 1, "__proto__": 2}}
    return report(everywhere, odd, handles=handles, command=HOSTILE, generated_at=HOSTILE)


def test_the_page_carries_the_report_whatever_is_in_it():
    for there in (report(), mixed(), hostile(), mixed("{{REPORT}} {{PAGE}} {{SCRIPT}}")):
        assert json.loads(Dom(html.render(there)).scripts()[0]) == json.loads(there.as_json())


def test_nothing_in_a_report_ends_the_script_element_that_carries_it():
    page = html.render(hostile(), Page(trace_url="https://x/</script><img>{trace_id}"))
    assert page.count("</script>") == TEMPLATE.count("</script>") == 4
    assert Dom(page).count("img") == 0
    assert not set("<>&") & set(html._inert(HOSTILE))


def test_the_policy_names_the_one_script_and_allows_no_request():
    page = html.render(mixed())
    policy = next(attrs["content"] for tag, attrs in Dom(page).elements if tag == "meta" and "http-equiv" in attrs)
    digest = base64.b64encode(hashlib.sha256(Dom(page).scripts()[-1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_template_names_no_address_and_writes_no_markup():
    assert not re.search(r"https?://|//[a-z]", TEMPLATE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", TEMPLATE)


def test_both_languages_have_every_text_and_english_says_what_the_other_formats_say():
    texts = json.loads(Dom(TEMPLATE).scripts()[2])
    assert tuple(texts) == html.LANGUAGES
    assert texts["en"].keys() == texts["zh"].keys()
    for reason in Reason:
        assert (texts["en"][reason.value], texts["en"][f"{reason.value}.why"]) == REASONS[reason.value][:2]
    for key, text in texts["en"].items():
        places = re.compile(r"{\w+}")
        assert sorted(places.findall(text)) == sorted(places.findall(texts["zh"][key])), key


def test_every_text_that_the_script_asks_for_is_there_and_none_is_left_over():
    texts = json.loads(Dom(TEMPLATE).scripts()[2])["en"]
    code = TEMPLATE[: TEMPLATE.index('<script type="application/json" id="report">')] + Dom(TEMPLATE).scripts()[-1]
    composed = re.compile(r"\.(why|text|one)$|^owner\.|^name$")
    for key in texts:
        assert f'"{key}"' in code or composed.search(key) or key in STATUSES, key
    asked = re.findall(r'\b(?:t|plural)\("([\w.]+)"[,)]', code) + re.findall(r'data-text="([\w.]+)"', code)
    assert len(asked) > 20
    assert set(asked) <= set(texts)


@pytest.mark.parametrize(
    "url", ["javascript:alert('{trace_id}')", "http://localhost/trace", "{trace_id}", "ftp://x/{trace_id}"]
)
def test_a_trace_url_that_makes_no_sense_is_refused(url):
    with pytest.raises(ValueError, match=re.escape(url) + r".*http or https URL that contains \{trace_id\}"):
        Page(trace_url=url)


def test_a_language_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"lang='fr': expected one of en, zh"):
        Page(lang="fr")


def test_the_readers_choices_are_in_the_page():
    choices = {"trace_url": "http://localhost:16686/trace/{trace_id}", "lang": "zh"}
    assert json.loads(Dom(html.render(mixed(), Page(**choices))).scripts()[1]) == choices


@pytest.fixture
def drawn(tmp_path):
    """Draw a page in a real browser and return the document that came of it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH: the page cannot be drawn")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--lang=en-US"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]

    def draw(there, page=html.PLAIN, action=None, width=1280):
        write(there, str(tmp_path / "leaks.html"), page)
        shown = tmp_path / "leaks.html"
        if action:
            shown = tmp_path / "frame.html"
            shown.write_text(FRAME.replace("WIDTH", str(width)).replace("ACTION", action))
        done = subprocess.run(
            [browser, *flags, shown.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return Dom(done.stdout)

    return draw


FRAME = """<!doctype html><iframe src="leaks.html" width="WIDTH" height="900" onload="
const page = contentDocument, tell = what => document.body.append(what);
const all = which => [...page.querySelectorAll(which)];
ACTION"></iframe>"""
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_drawn_page_of_a_healthy_program_accuses_nobody(drawn):
    dom = drawn(report(), Page(lang="en"))
    assert "HealthyNo leak was found." in dom.seen
    assert dom.count("article") == 0
    hidden = [attrs.get("id") for _, attrs in dom.elements if "hidden" in attrs]
    assert hidden == ["trends", "tools", "ran-out", "aside"]


@pytest.mark.slow
def test_the_drawn_page_speaks_chinese(drawn):
    told = drawn(mixed(), Page(lang="zh")).seen
    assert "检测到泄漏5 个句柄未释放" in told
    assert "Leaks detected" not in told


@pytest.mark.slow
def test_in_the_drawn_page_a_hostile_report_is_text_and_nothing_of_it_runs(drawn):
    dom = drawn(hostile(), Page(lang="en"))
    assert dom.seen.count(HOSTILE) > 15
    assert f"{1:016x}" in dom.seen
    assert dom.count("img") == 0
    assert dom.count("script") == 4
    title = "".join(data for tag, data in dom.texts if tag == "title")
    assert title == "Leaks detected · Leak report"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("lang", html.LANGUAGES)
def test_the_drawn_page_needs_no_sideways_scrolling(drawn, width, lang):
    path = "/srv/" + "very-long-directory-name/" * 12 + "x" * 200 + ".py"
    long = entry(name=path, site=frame("f" * 150, file=path, text="y" * 300), stack=[frame(file=path)] * 3)
    ran_out = shortage(what="w" * 200, holders=[group(where=path, trace_id=f"{7:032x}")] * 12)
    dom = drawn(report(long, entry(2, owner={"task": "t" * 200}), shortages=[ran_out]), Page(lang=lang), MEASURE, width)
    found = re.search(r"\[(\d+) (\d+)\]", dom.seen)
    assert found, "the page in the frame was not measured"
    assert int(found[1]) == width
    assert int(found[2]) <= width


@pytest.mark.slow
def test_the_drawn_page_can_be_filtered_by_text_and_by_verdict(drawn):
    told = drawn(mixed(), Page(lang="en"), SIFT).seen
    assert re.findall(r"\[(.*?)\]", told) == [
        "3scope_end 1 of 5 shown",
        " 0 of 5 shown",
        "1abandoned,2owner_finished,2held_too_long,3scope_end,4slow 5 of 5 shown",
        "2held_too_long 1 of 5 shown",
    ]


@pytest.mark.slow
def test_the_drawn_page_can_be_switched_to_the_other_language(drawn):
    assert "检测到泄漏 · 泄漏报告|zh|中文" in drawn(mixed(), Page(lang="en"), SWITCH).seen

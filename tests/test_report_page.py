from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from browser import Dom
from report_samples import HOSTILE, hostile, mixed, process, report, run

from crawlo_otel_leaks import vitals
from crawlo_otel_leaks.report import html
from crawlo_otel_leaks.report.html import Page

TEMPLATE = html.template()
STATUSES = {"healthy", "leak_detected", "insufficient_data"}


def test_the_page_carries_the_report_whatever_is_in_it():
    long = report(process=process(240), runs=[run(number) for number in range(30)])
    for there in (report(), mixed(), hostile(), mixed("{{REPORT}} {{PAGE}} {{SCRIPT}}"), long):
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


def test_every_text_that_the_page_asks_for_is_there_and_none_is_left_over():
    texts = json.loads(Dom(TEMPLATE).scripts()[2])["en"]
    code = TEMPLATE[: TEMPLATE.index('<script type="application/json" id="report">')] + Dom(TEMPLATE).scripts()[-1]
    composed = re.compile(r"\.(why|remedy|text|one)$|^(owner|trend|axis|per|run)\.|^name$")
    told = {*STATUSES, *vitals.QUANTITIES}
    for key in texts:
        assert f'"{key}"' in code or composed.search(key) or key in told, key
    asked = re.findall(r'\b(?:t|plural)\("([\w.]+)"[,)]', code) + re.findall(r'data-text="([\w.]+)"', code)
    assert len(asked) > 60
    assert set(asked) <= set(texts)


def test_the_page_draws_every_quantity_of_the_series():
    listed = re.search(r"const QUANTITIES = \[(.*?)\]", TEMPLATE)
    assert tuple(re.findall(r'"(\w+)"', listed[1])) == vitals.QUANTITIES


def test_what_only_a_terminal_says_is_not_in_the_page():
    texts = json.loads(Dom(TEMPLATE).scripts()[2])
    assert tuple(texts) == html.LANGUAGES
    assert not [key for key in texts["zh"] if key.startswith("text.")]


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

"""Reports speak two languages: which one is chosen, and that each has a table without gaps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_samples import QUANTITIES, entry, hostile, mixed, process, report, run

from crawlo_otel_leaks import cli, vitals
from crawlo_otel_leaks.model import Reason
from crawlo_otel_leaks.report import language as languages
from crawlo_otel_leaks.report import text, text_process
from crawlo_otel_leaks.report.language import amount, from_locale, language
from crawlo_otel_leaks.report.reasons import LEVELS, REASONS, words
from crawlo_otel_leaks.runtime import Runtime
from crawlo_otel_leaks.settings import LANGUAGES, PREFIX, Settings

PLACES = re.compile(r"{\w+}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SOURCES = Path(languages.__file__).parent
UNTRANSLATED = {"trace", "span", "sockets", "text.trace", "text.span", "of"}
"""What a Chinese engineer says in English, or in signs."""


@pytest.fixture
def locale(monkeypatch):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", f"{PREFIX}LANG"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def test_both_tables_have_the_same_keys_and_the_same_places_to_fill_in():
    english, chinese = (language(name).texts for name in LANGUAGES)
    assert english.keys() == chinese.keys()
    for key, told in english.items():
        extra = ["{title}"] if key == "text.reason" else []  # the name of the reason is English by itself
        assert sorted(PLACES.findall(told) + extra) == sorted(PLACES.findall(chinese[key])), key


def test_no_key_stands_twice_in_a_table():
    for name in LANGUAGES:
        pairs = json.loads((SOURCES / "texts" / f"{name}.json").read_text(), object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        assert sorted(keys) == sorted(set(keys))


def test_nothing_is_left_in_english_and_no_english_has_strayed_into_the_other_table():
    english, chinese = (language(name).texts for name in LANGUAGES)
    for key, told in chinese.items():
        worded = re.search("[a-z]{2}", PLACES.sub("", english[key]))
        assert CHINESE.search(told) or key in UNTRANSLATED or not worded, key
    assert not [key for key, told in english.items() if CHINESE.search(told)]


def test_every_text_that_a_terminal_asks_for_is_there_and_none_is_left_over():
    sources = "".join((SOURCES / f"{name}.py").read_text() for name in ("text", "text_process"))
    asked = set(re.findall(r"""say(?:\.plural)?\(\s*["']([\w.]+)["']""", sources))
    asked |= set(re.findall(r"""["'](text\.[\w.]+)["']""", sources))
    assert len(asked) > 25
    assert asked - {"text.owner."} <= set(language("en").texts)
    composed = re.compile(r"^text\.(owner\.\w+|healthy|leak_detected|insufficient_data)$|\.one$")
    for key in language("en").texts:
        assert not key.startswith("text.") or key in asked or composed.search(key), key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_verdict_and_every_quantity_has_words(lang):
    assert set(LEVELS) == {reason.value for reason in Reason}
    assert set(QUANTITIES) == set(vitals.QUANTITIES)
    for reason in LEVELS:
        assert all(words(reason, lang))
        assert (lang == "en") == (words(reason, lang) == REASONS[reason])
    for quantity in vitals.QUANTITIES:
        assert language(lang)(quantity) != quantity


def test_what_is_not_known_is_told_as_it_is():
    say = language("zh")
    assert (say("stolen"), say("left_out")) == ("stolen", "另有 {n} 个泄漏未列出：报告能容纳的位置数有上限。")
    assert "stolen" in words("stolen", "zh").why


# Numbers.


@pytest.mark.parametrize(
    ("quantity", "value", "told"),
    [
        ("rss", 512, "+0.5 KiB"),
        ("rss", 1536 * 1024, "+1.5 MiB"),
        ("rss", -3 * 2**30, "-3.0 GiB"),
        ("fds", 0, "0"),
        ("fds", 0.25, "+0.2"),
        ("objects", 450_000, "+450,000"),
        ("objects", -1234.5, "-1,234"),
    ],
)
def test_amounts_have_the_unit_of_their_quantity(quantity, value, told):
    assert amount(quantity, value, signed=True) == told
    assert amount(quantity, value) == told.removeprefix("+")


@pytest.mark.parametrize(
    ("quantity", "slope", "english", "chinese"),
    [
        ("fds", 2, "+2/s", "+2/秒"),
        ("fds", 0.05, "+3/min", "+3/分钟"),
        ("fds", 1 / 1800, "+2/h", "+2/小时"),
        ("fds", 1 / 864_000, "+0.1/d", "+0.1/天"),
        ("rss", 200 * 1024, "+200.0 KiB/s", "+200.0 KiB/秒"),
        ("rss", 60 * 1024, "+3.5 MiB/min", "+3.5 MiB/分钟"),
        ("rss", 0.0, "0.0 KiB/d", "0.0 KiB/天"),
    ],
)
def test_a_slope_is_told_by_the_shortest_time_in_which_it_is_seen(quantity, slope, english, chinese):
    assert language("en").rate(quantity, slope) == english
    assert language("zh").rate(quantity, slope) == chinese


def test_nobody_is_ever_entirely_sure():
    assert [text_process.certainty(one) for one in (1.0, 0.998, 0.9512, 0.5)] == ["99.9", "99.8", "95.1", "50"]


def test_lengths_of_time_are_told_in_the_language():
    assert [language("zh").humane(one) for one in (0.25, 5, 312.4, 90_000)] == [
        "250 毫秒",
        "5.0 秒",
        "5 分 12 秒",
        "1 天 1 小时",
    ]


# Which language.


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [
        ({}, ""),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "zh-Hans_CN"}, "zh"),
        ({"LANG": "zh_TW.Big5@x"}, "zh"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, ""),
        ({"LANG": "C.UTF-8"}, ""),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": "en_GB", "LC_MESSAGES": "zh_CN"}, "en"),
        ({"LANG": "zh_CN", "LC_ALL": ""}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": "C"}, ""),
    ],
)
def test_the_locale_chooses_as_it_does_for_any_program(environ, chosen):
    assert from_locale(environ) == chosen


@pytest.mark.parametrize(
    ("option", "variables", "told"),
    [
        ([], {"LANG": "zh_CN.UTF-8"}, "检测到泄漏：1 个句柄"),
        ([], {"LANG": "zh_CN.UTF-8", f"{PREFIX}LANG": "en"}, "LEAK DETECTED: 1 handle"),
        (["--lang", "zh"], {"LANG": "en_US.UTF-8", f"{PREFIX}LANG": "en"}, "检测到泄漏：1 个句柄"),
        ([], {"LANG": "C"}, "LEAK DETECTED: 1 handle"),
        ([], {"LANG": "zh_CN.UTF-8", f"{PREFIX}LANG": "fr"}, "检测到泄漏：1 个句柄"),
    ],
)
@pytest.mark.usefixtures("locale")
def test_an_option_wins_over_the_setting_and_that_over_the_locale(tmp_path, monkeypatch, option, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "r.json").write_text(report(entry()).as_json())
    again = tmp_path / "r.txt"
    assert cli.main(["report", str(tmp_path / "r.json"), "--report", str(again), *option]) == 1
    assert told in again.read_text()


def test_the_terminal_is_told_in_the_language_too(tmp_path, capsys, locale):
    locale("LANG", "zh_CN.UTF-8")
    (tmp_path / "r.json").write_text(report(entry()).as_json())
    assert cli.main(["report", str(tmp_path / "r.json")]) == 1
    assert "检测到泄漏：1 个句柄" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "lang", "told"), [("", "zh_CN", "正常"), ("en", "zh_CN", "HEALTHY"), ("", "C", "HEALTHY")]
)
def test_a_report_written_at_exit_speaks_the_language_of_the_setting_or_the_locale(
    tmp_path, locale, setting, lang, told
):
    locale("LANG", lang)
    path = tmp_path / "r.txt"
    Runtime(Settings(lang=setting, report=(str(path),))).finish(exiting=False)
    assert path.read_text().splitlines()[0] == told


# The whole text.


def whole(lang, **changed):
    types = [{"type": "shop.Page", "first": 10, "last": 1010, "growth": 1000, "referrers": ["list", "shop.PAGES"]}]
    sites = [{"file": "shop.py", "line": 3, "growth_bytes": 2**21, "count": 1000}]
    block = process(60, type_changes=types, memory_sites=sites)
    runs = [run(number) for number in range(22)]
    return text.render(report(*mixed().leaks, process=block, runs=runs, left_out=2, **changed), lang)


def test_what_grows_and_what_of_is_told():
    told = whole("en")
    assert "\ngrowing  Memory (RSS)  +4.0 MiB/min, 99.8 % sure, limit reached in 2 h 0 min\n" in told
    assert "\ngrew  shop.Page  10 -> 1,010 (+1,000)\n  kept by list <- shop.PAGES\n" in told
    assert "\nstayed  shop.py:3  +2.0 MiB  in 1,000 blocks\n" in told


def test_the_newest_runs_are_told_and_the_earlier_ones_counted():
    told = whole("en")
    line = (
        "run  news  finished, 200 pages, 1 min 30 s, leaks (32 handles), "
        "still held: db.connection 2 task 30, 120.0 MiB -> 130.0 MiB"
    )
    assert told.count(line) == text_process.RUNS
    assert "\nand 2 earlier runs\n" in told
    assert "\nand 7 earlier runs\n" in whole("en", runs_left_out=5)


def test_of_a_run_only_what_is_known_is_told():
    unknown = {"duration_s": None, "leaks": 0, "open": {}, "after": None}
    alive = run(pages=1, outcome="running", verdict="insufficient_data", **unknown)
    failed = run(pages=None, outcome="failed", error="OSError", verdict="healthy", **unknown)
    assert text.render(report(runs=[alive, failed])).splitlines()[-2:] == [
        "run  news  running, 1 page, not judged yet",
        "run  news  failed (OSError), healthy",
    ]


def test_the_chinese_text_has_no_english_sentence():
    for line in whole("zh").splitlines():
        told = re.sub(r"（\w+）|/\S+|[\w.]+\.\w+|\(\w+\)", "", line)
        assert not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", told), line


def test_names_of_facts_are_aligned_in_chinese_too():
    lines = text.render(report(entry(holds=["socket"])), "zh").splitlines()
    assert "  同时占用    socket" in lines
    assert "  指纹        0000000000000001" in lines


def test_hostile_names_cannot_steer_a_terminal_in_any_part():
    there = hostile()
    steering = {"spider": "a\x1b[2Jb", "error": "\x1b[1m", "open": {"\x1b[3m": 1}}
    told = text.render(report(runs=[run(**steering)], process=there.process))
    assert "\x1b" not in told
    assert r"a\x1b[2Jb" in told

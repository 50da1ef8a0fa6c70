from __future__ import annotations

import io

import pytest
from report_samples import HOSTILE, MARKUP, NO_UTF8, STEERING, entry, frame, group, mixed, report, shortage
from rich.console import Console

from crawlo_otel_leaks.report import text
from crawlo_otel_leaks.report.language import language
from crawlo_otel_leaks.report.reasons import REASONS, words


def shown(there, **console):
    buffer = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    text.show(there, Console(file=buffer, **{"width": 100, "color_system": None, "force_terminal": False, **console}))
    buffer.flush()
    return buffer.buffer.getvalue().decode()


def test_the_verdict_comes_first_with_handles_and_places():
    assert shown(mixed()).splitlines()[0] == "LEAK DETECTED: 5 handles from 2 places"
    assert shown(report(entry())).splitlines()[0] == "LEAK DETECTED: 1 handle from 1 place"
    assert shown(report()).splitlines()[0] == "HEALTHY"
    assert shown(report(entry(reason="slow"))).splitlines()[0] == "HEALTHY"
    assert shown(report(status="insufficient_data")).splitlines()[0] == "INSUFFICIENT DATA"


def test_program_time_and_live_handles_are_told():
    lines = shown(report()).splitlines()
    assert lines[1:] == ["crawl.py at 2026-01-02T03:04:05+00:00", "live handles: file 3, http.session 1"]


def test_an_entry_tells_everything_once():
    told = shown(report(entry(count=12)))
    assert "owner_finished  12 x file /data/page-1.html  held 5 min 12 s" in told
    for once in (
        REASONS["owner_finished"].why,
        "/srv/shop/app/views.py:42 in fetch",
        "handle = open(path)",
        "/srv/shop/app/views.py:7 in handle_request",
        f"{1:032x}  span {1:016x}",
        "task Task-1, thread MainThread, scope import",
        f"fingerprint {1:016x}",
    ):
        assert told.count(once) == 1, once


def test_what_it_holds_in_turn_is_told():
    held = "socket tcp a -> b (descriptor 7)"
    assert f"holds       {held}" in shown(report(entry(holds=[held])))


def test_without_a_trace_none_is_told():
    assert "trace" not in shown(report(entry(trace_id=None, span_id=None)))


def test_a_resolved_leak_is_told_as_such():
    told = shown(report(entry(resolved=True, reason="scope_end")))
    assert "resolved (scope_end)" in told
    assert language("en")("resolved.why") in told
    assert REASONS["scope_end"].why not in told


@pytest.mark.parametrize("width", [80, 160])
def test_a_long_path_stays_whole_so_that_it_can_be_copied(width):
    path = "/data/" + "very-long-directory/" * 20 + "a name with spaces.html"
    told = shown(report(entry(name=path, site=frame(file=path))), width=width)
    assert told.count(path) == 2


@pytest.mark.parametrize("width", [80, 100, 160])
def test_ordinary_lines_fit_the_narrowest_terminal(width):
    assert max(len(line) for line in shown(mixed(), width=width).splitlines()) <= 80


def test_a_deep_stack_is_cut_with_the_count_of_the_rest():
    stack = [frame(f"step_{number}", number) for number in range(20)]
    told = shown(report(entry(site=stack[0], stack=stack)))
    assert "in step_5" in told
    assert "in step_6" not in told
    assert "14 more frames" in told


def test_of_many_entries_the_first_twenty_are_told_and_the_rest_counted():
    many = [entry(number, count=2) for number in range(1, 100)] + [entry(100, reason="slow")]
    told = shown(report(*many))
    assert told.count("owner_finished  2 x") == 20
    assert "and 80 more places with 159 handles (owner_finished 79, slow 1)" in told
    assert "more place" not in shown(report(*many[:20]))


def test_what_the_report_left_out_is_told():
    assert "17 more leaks found no place" in shown(report(entry(), left_out=17))
    assert "found no place" not in shown(report(entry()))


def test_what_looks_like_markup_is_text():
    assert MARKUP in shown(mixed(MARKUP), force_terminal=True, color_system="truecolor")
    assert "[/red]" in shown(report(entry(owner={"task": "[/red]"}), command="[red]"))


@pytest.mark.parametrize("name", [HOSTILE, "日本語.txt", "a'b\"c"])
def test_names_are_told_as_they_are(name):
    assert name in shown(mixed(name))


@pytest.mark.parametrize(("name", "told"), [(STEERING, r"a\x1b[2Jb\rc\nd\u202ee"), (NO_UTF8, r"caf\udce9.txt")])
def test_what_could_steer_a_terminal_is_told_as_escapes(name, told):
    whole = shown(mixed(name))
    assert told in whole
    assert name not in whole


@pytest.mark.parametrize(
    ("there", "colour"),
    [(report(), "32"), (report(entry()), "31"), (report(status="insufficient_data"), "33")],
)
def test_the_verdict_has_the_colour_of_its_gravity(there, colour):
    assert shown(there, force_terminal=True, color_system="standard").startswith(f"\x1b[1;{colour}m")


def test_each_reason_has_the_colour_of_its_confidence():
    many = [entry(reason="abandoned"), entry(reason="held_too_long"), entry(reason="slow"), entry(resolved=True)]
    told = shown(report(*many), force_terminal=True, color_system="standard")
    for start in ("\x1b[1;31mabandoned", "\x1b[1;33mheld_too_long", "\x1b[1;36mslow", "\x1b[1;36mresolved (owner_f"):
        assert f"\n{start}" in told


def test_a_file_has_no_colours_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    assert "\x1b" not in text.render(mixed())
    assert "5 handles from 2 places" in text.render(mixed())


def test_a_reason_of_a_later_version_is_told_as_it_is():
    there = report(entry(reason="stolen"))
    assert "Reported as stolen." in shown(there)
    assert words("stolen").level == "warning"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (312.4, "5 min 12 s"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_lengths_of_time_are_told_as_people_say_them(seconds, told):
    assert language("en").humane(seconds) == told


def test_what_ran_out_is_told_with_who_held_it():
    lines = shown(report(shortages=[shortage()])).splitlines()
    assert lines[-5:] == [
        "ran out  connections of pool db:5432/app  2 times",
        "  15 of 15 held when somebody last waited 5.0 s in vain, by:",
        "  12 x app/views.py:42 get_user  up to 5 min 12 s  (owner finished)",
        f"      trace {7:032x}",
        "  3 x app/jobs.py:7 run  up to 5 min 12 s",
    ]


def test_of_many_holders_the_last_are_summed_up_and_a_limit_need_not_be_known():
    many = [group(20 - number, f"app/views.py:{number} f", owner_finished=False) for number in range(9)]
    told = shown(report(shortages=[shortage(limit=None, holders=many)]))
    assert "  15 held when" in told
    assert told.splitlines()[-1] == f"  {14 + 13 + 12} elsewhere"

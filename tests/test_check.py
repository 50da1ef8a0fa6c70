from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
from crawls import OLD, SETTINGS

from crawlo_otel_leaks import leak_check

pytest_plugins = ["crawls"]
FOLDER = Path(__file__).parent
QUICK = [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
HASTE = {"GRACE": "0.5", "SCAN_INTERVAL": "0.1"}


def start(*arguments, where=FOLDER, command=("-m", "crawlo_otel_leaks.leak_check")):
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        cwd=where,
        env=programs.environment(None, **HASTE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(*arguments, **how):
    return programs.finish(start(*arguments, **how))


def leaks(path):
    return json.loads(path.read_text())["leaks"]


@pytest.fixture
def report(tmp_path):
    return tmp_path / "leaks.json"


def test_a_healthy_spider_passes_with_figures_and_a_report(crawl_site, report):
    ended = check("spiders", "brief", "--runs", "3", "--report", str(report), *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert "HEALTHY" in ended.stderr
    assert "runs 3  pages 30  MB " in ended.stderr
    assert "runs  3 (3 finished), 30 pages" in ended.stderr
    assert ended.stdout == ""
    found = json.loads(report.read_text())
    assert [(run["spider"], run["verdict"], run["pages"]) for run in found["runs"]] == [("brief", "healthy", 10)] * 3
    assert found["command"] == "crawlo-leaks check spiders brief"


def test_a_leaking_spider_fails_by_its_class_name_too(crawl_site, report):
    ended = check("spiders", "Leaky", "--runs", "2", "--report", str(report), *QUICK)
    assert ended.returncode == 1, ended.stderr
    (leak,) = leaks(report)
    assert (leak["kind"], leak["count"], leak["owner"]["spider"]) == ("http.session", 2, "leaky")
    assert "tests/spiders.py" in ended.stderr


def test_what_the_baseline_knows_does_not_fail_again(crawl_site, report):
    assert check("spiders", "leaky", "--runs", "1", "--report", str(report), *QUICK).returncode == 1
    ended = check("spiders", "leaky", "--runs", "1", "--baseline", str(report), *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert "not counted  1 known from the baseline" in ended.stderr


def test_the_report_speaks_the_language_asked_for(crawl_site, tmp_path):
    page = tmp_path / "leaks.html"
    ended = check("spiders", "brief", "--runs", "1", "--lang", "zh", "--report", str(page), *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert "正常" in ended.stderr
    assert page.exists()


def test_reasons_that_are_not_asked_for_do_not_fail(crawl_site):
    ended = check("spiders", "leaky", "--runs", "1", "--fail-on", "abandoned, held_too_long", *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert "not counted  1 for reasons that --fail-on leaves out" in ended.stderr


def test_runs_are_repeated_until_the_duration_is_over(crawl_site, report):
    began = time.monotonic()
    ended = check("spiders", "brief", "--duration", "20", "--interval", "2", "--report", str(report), *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - began >= 20
    assert len(json.loads(report.read_text())["runs"]) > 1
    assert len(json.loads(report.read_text())["process"]["series"]) >= 3


def test_a_run_that_outlasts_the_duration_is_cancelled(crawl_site, report):
    crawl_site.ask("hold")
    ended = check("spiders", "silent", "--duration", "2", "--report", str(report), *QUICK)
    crawl_site.ask("proceed")
    assert "took longer than the duration" in ended.stderr
    assert [run["outcome"] for run in json.loads(report.read_text())["runs"]] == ["cancelled"]
    assert ended.returncode in {1, 2}  # the tasks that it leaves, or that nothing finished


def test_ctrl_c_ends_it_with_the_report_so_far(crawl_site, report):
    process = start("spiders", "brief", "--duration", "60", "--interval", "0.5", "--report", str(report), *QUICK)
    for line in process.stderr:
        if " s  runs " in line and "runs 0" not in line:
            break
    process.send_signal(signal.SIGINT)
    ended = programs.finish(process)
    assert ended.returncode == 0, ended.stderr
    assert "HEALTHY" in ended.stderr
    assert json.loads(report.read_text())["runs"]


def test_nothing_but_failed_runs_is_not_healthy(crawl_site):
    ended = check("spiders", "broken", "--runs", "2", *QUICK)
    assert ended.returncode == 2
    assert "no run finished (2 failed RuntimeError)" in ended.stderr


@pytest.mark.skipif(OLD, reason="this release has no such pipeline")
def test_what_keeps_the_process_from_its_exit_is_told_and_it_ends(crawl_site, report, tmp_path):
    pipelines = {"crawlo.pipelines.SQLitePipeline": 100, "spiders.Refusing": 200}
    chosen = [*QUICK, "--set", f"PIPELINES={pipelines}", "--set", f"SQLITE_PATH={tmp_path}"]
    ended = check("spiders", "brief", "--runs", "1", "--report", str(report), *chosen)
    assert ended.returncode == 1, ended.stderr
    assert "the exit hangs on thread" in ended.stderr
    assert "crawlo/pipelines/sql/sqlite.py" in ended.stderr
    assert "in spider brief" in ended.stderr
    assert {leak["kind"] for leak in leaks(report)} == {"db.connection", "thread"}


def test_a_package_of_spiders_is_searched(crawl_site, tmp_path):
    package = tmp_path / "project"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deep.py").write_text("from crawlo import Spider\nclass Deep(Spider):\n    name = 'deep'\n")
    ended = check("project", "nosuch", where=tmp_path)
    assert ended.returncode == 2
    assert "found no spider 'nosuch' in project; there are: deep (Deep)" in ended.stderr


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("no_such_module", "found no module 'no_such_module'"),
        ("wants", "module wants needs 'no_such_library'"),
        ("fails", "module fails cannot be imported: ValueError: today not"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told(tmp_path, module, message):
    (tmp_path / "wants.py").write_text("import no_such_library")
    (tmp_path / "fails.py").write_text("raise ValueError('today not')")
    ended = check(module, "spider", where=tmp_path)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "found", "expected"),
    [
        (["--duration", "-1"], "--duration -1", "above 0"),
        (["--duration", "nan"], "--duration nan", "above 0"),
        (["--duration", "5", "--interval", "9"], "--interval 9", "--duration, which is 5"),
        (["--interval", "0"], "--interval 0", "more than 0"),
        (["--runs", "0"], "--runs 0", "at least 1"),
        (["--set", "CONCURRENCY"], "--set CONCURRENCY", "KEY=VALUE"),
        (["--fail-on", "slow"], "'slow' is no reason", "abandoned"),
        (["--baseline", "nowhere.json"], "nowhere.json", "the JSON report of an earlier check"),
        (["--baseline", os.devnull], os.devnull, "the JSON report of an earlier check"),
        (["--report", "leaks.pdf"], "leaks.pdf", ".json"),
    ],
)
def test_what_makes_no_sense_is_refused_naming_both_sides(capsys, arguments, found, expected):
    assert leak_check.main(["spiders", "brief", *arguments]) == 2
    told = capsys.readouterr().err
    assert found in told
    assert expected in told


def test_without_crawlo_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert leak_check.main(["spiders", "brief"]) == 2
    assert "pip install 'crawlo-otel-leaks[crawlo]'" in capsys.readouterr().err

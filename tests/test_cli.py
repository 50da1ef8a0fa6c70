from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from crawlo_otel_leaks import cli

LEAKY = "kept = [open(__file__) for _ in range(3)]\nprint('the host speaks')\n"
CLEAN = "with open(__file__) as f:\n    f.read()\nprint('the host speaks')\n"


@pytest.fixture
def program(tmp_path):
    def write(source):
        path = tmp_path / "app.py"
        path.write_text(source)
        return str(path)

    return write


def crawlo_leaks(*arguments, env=None):
    command = [Path(sys.executable).parent / "crawlo-leaks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


def test_run_shows_the_leak_on_stderr_writes_reports_and_exits_1(program, tmp_path):
    done = crawlo_leaks(
        "run",
        "--report",
        tmp_path / "r.json",
        "--report",
        tmp_path / "r.html",
        "--",
        sys.executable,
        program(LEAKY),
    )
    assert (done.returncode, done.stdout) == (1, "the host speaks\n")
    assert "LEAK DETECTED: 3 handles from 1 place" in done.stderr
    assert "app.py:1" in done.stderr
    (entry,) = json.loads((tmp_path / "r.json").read_text())["leaks"]
    assert (entry["reason"], entry["count"], entry["site"]["line"]) == ("process_exit", 3, 1)
    assert "process_exit" in (tmp_path / "r.html").read_text()


def test_run_of_a_clean_program_is_healthy_and_exits_0(program):
    done = crawlo_leaks("run", "--", sys.executable, program(CLEAN))
    assert (done.returncode, done.stdout) == (0, "the host speaks\n")
    assert "HEALTHY" in done.stderr


def test_run_speaks_the_language_on_stderr_and_in_reports(program, tmp_path):
    reports = [option for suffix in ("txt", "html") for option in ("--report", tmp_path / f"r.{suffix}")]
    done = crawlo_leaks("run", "--lang", "zh", *reports, "--", sys.executable, program(LEAKY))
    told = "检测到泄漏：3 个句柄，来自 1 处代码"
    assert (done.returncode, done.stdout) == (1, "the host speaks\n")
    assert told in done.stderr
    assert told in (tmp_path / "r.txt").read_text()
    assert '"lang": "zh"' in (tmp_path / "r.html").read_text()


def test_run_shows_what_child_processes_leaked_too(program):
    source = """
        import multiprocessing

        def work():
            kept.append(open(__file__))

        kept = []
        if __name__ == "__main__":
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
    """
    done = crawlo_leaks("run", "--", sys.executable, program(textwrap.dedent(source)))
    assert done.returncode == 1
    assert done.stderr.count("HEALTHY") == 1
    assert "LEAK DETECTED: 1 handle from 1 place" in done.stderr


def test_run_keeps_the_exit_code_of_a_program_that_fails(program):
    done = crawlo_leaks("run", "--", sys.executable, program(LEAKY + "import sys; sys.exit(7)"))
    assert done.returncode == 7
    assert "LEAK DETECTED" in done.stderr


def test_run_tells_a_signal_as_a_shell_does(program):
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    assert crawlo_leaks("run", "--", sys.executable, program(source)).returncode == 137


def test_run_without_a_report_is_an_error_that_says_why(program):
    done = crawlo_leaks("run", "--", "true")
    assert done.returncode == 2
    assert "true ended without a report; expected a Python program" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--", "no-such-program"], "no-such-program: no such program"),
        (["run", "--report", "leaks.pdf", "--", "true"], "expected a path ending in one of .html"),
        (["run", "--report", "/nowhere/r.json", "--", "true"], "/nowhere is no folder"),
        (["report", "/nowhere.json"], "/nowhere.json"),
        (["report", __file__], "expected"),
    ],
)
def test_a_wrong_call_is_told_and_exits_2(arguments, said, capsys):
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["jump"], ["run"], ["report"]])
def test_usage_errors_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: crawlo-leaks" in capsys.readouterr().err


def test_report_shows_a_file_turns_it_into_another_and_exits_1_for_leaks(program, tmp_path, capsys):
    path = tmp_path / "r.json"
    crawlo_leaks("run", "--report", path, "--", sys.executable, program(LEAKY))
    assert cli.main(["report", str(path), "--report", str(tmp_path / "r.sarif")]) == 1
    assert "LEAK DETECTED" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.sarif").read_text())["version"] == "2.1.0"


def test_report_as_a_page_links_traces_and_speaks_the_language(program, tmp_path, capsys):
    path, page = tmp_path / "r.json", str(tmp_path / "r.html")
    crawlo_leaks("run", "--report", path, "--", sys.executable, program(LEAKY))
    link = "http://localhost:16686/trace/{trace_id}"
    cli.main(["report", str(path), "--report", page, "--trace-url", link, "--lang", "zh"])
    assert json.dumps({"trace_url": link, "lang": "zh"}) in Path(page).read_text()
    capsys.readouterr()
    assert cli.main(["report", str(path), "--report", page, "--lang", "xx"]) == 2
    assert "lang='xx': expected one of en, zh" in capsys.readouterr().err


def test_report_of_a_healthy_run_exits_0(program, tmp_path, capsys):
    path = tmp_path / "r.json"
    crawlo_leaks("run", "--report", path, "--", sys.executable, program(CLEAN))
    assert cli.main(["report", str(path)]) == 0
    assert "HEALTHY" in capsys.readouterr().out


def test_demo_finds_every_leak_of_the_leaky_twin_and_none_of_the_clean_one(tmp_path):
    path = tmp_path / "demo.json"
    done = crawlo_leaks("demo", "--report", path)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    leaks = report["leaks"]
    found = {(leak["kind"], leak["reason"], leak["count"], leak["site"]["text"].split("# ")[-1]) for leak in leaks}
    assert found == {
        ("file", "abandoned", 3, "leak: dropped without close"),
        ("file", "owner_finished", 3, "leak: kept open"),
        ("http.session", "owner_finished", 12, "leak: a session per page, and nobody closes it"),
        ("http.connection", "owner_finished", 3, "leak: the body is never read, nor released"),
        ("redis.connection", "owner_finished", 3, "leak: a connection of its own, until it is closed"),
        ("db.connection", "abandoned", 3, "leak: see the return below"),  # its pool dies with the loop
    }
    assert all(leak["trace_id"] and leak["span_id"] for leak in leaks)
    (shortage,) = report["shortages"]
    assert (shortage["held"], shortage["limit"], len(shortage["holders"])) == (3, 3, 1)
    assert shortage["holders"][0]["where"].endswith(" save")
    assert "3 of 3 connections of pool " in done.stdout
    clean = crawlo_leaks("demo", "--clean", "--report", path, "--lang", "zh")
    assert clean.returncode == 0, clean.stderr
    assert "正常" in clean.stderr.splitlines()
    assert json.loads(path.read_text())["leaks"] == []


def fingerprints(source, program, tmp_path, name="r.json"):
    crawlo_leaks("run", "--report", tmp_path / name, "--", sys.executable, program(source))
    return {leak["fingerprint"] for leak in json.loads((tmp_path / name).read_text())["leaks"]}


def test_a_fingerprint_is_the_same_in_the_next_process_and_after_a_line_shift(program, tmp_path):
    source = "kept = []\n\ndef take():\n    kept.append(open(__file__))\n\ntake()\n"
    first = fingerprints(source, program, tmp_path)
    assert len(first) == 1
    assert fingerprints(source, program, tmp_path) == first
    shifted = "# one\n# two\n" + source.replace("def take():\n", "def take():\n    # three\n\n")
    assert fingerprints(shifted, program, tmp_path) == first
    assert fingerprints(source.replace("take", "grab"), program, tmp_path) != first

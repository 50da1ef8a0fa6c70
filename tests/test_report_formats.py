from __future__ import annotations

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
from report_samples import HOSTILE, MARKUP, NO_UTF8, STEERING, entry, frame, mixed, process, report, run

from crawlo_otel_leaks.report import formats, write
from crawlo_otel_leaks.report.formats import ReportError, read
from crawlo_otel_leaks.settings import REPORT_SUFFIXES

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "report.schema.json").read_text())
SUFFIXES = (".html", ".json", ".sarif", ".txt")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_formats_are_those_that_the_settings_accept():
    assert tuple(formats._FORMATS) == SUFFIXES == REPORT_SUFFIXES


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_suffix_chooses_the_format_and_nothing_else_is_left_behind(tmp_path, suffix):
    write(mixed(), str(tmp_path / f"leaks{suffix}"))
    assert names(tmp_path) == [f"leaks{suffix}"]
    text = (tmp_path / f"leaks{suffix}").read_text()
    begins = {".html": "<!doctype html>", ".json": '{\n  "schema": "crawlo-leaks/1"', ".txt": "LEAK DETECTED"}
    assert text.startswith(begins.get(suffix, '{\n  "$schema"'))


@pytest.mark.parametrize("name", ["leaks.xml", "leaks", "leaks.json.gz", "leaks.JSON", "json"])
def test_a_suffix_that_is_none_of_ours_is_refused_with_those_that_are(tmp_path, name):
    with pytest.raises(ReportError, match=re.escape(f"{name}: ") + r".*\.html, \.json, \.sarif, \.txt"):
        write(mixed(), str(tmp_path / name))
    assert names(tmp_path) == []


def test_a_name_that_is_all_suffix_works_as_the_settings_accept_it(tmp_path):
    write(mixed(), str(tmp_path / ".json"))
    assert read(str(tmp_path / ".json")) == mixed()


@pytest.mark.parametrize(("there", "asked"), [(None, "gone/leaks.json"), ("file", "file/leaks.json")])
def test_a_path_that_cannot_be_written_is_named_as_it_was_given(tmp_path, there, asked):
    if there:
        (tmp_path / there).write_text("kept")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / asked))) as raised:
        write(mixed(), str(tmp_path / asked))
    assert ".part" not in str(raised.value)
    assert names(tmp_path) == ([there] if there else [])


def test_a_directory_in_the_way_is_left_and_nothing_beside_it(tmp_path):
    (tmp_path / "leaks.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write(mixed(), str(tmp_path / "leaks.json"))
    assert names(tmp_path) == ["leaks.json"]


def test_a_failure_half_way_keeps_the_report_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "leaks.json"
    write(report(), str(path))
    before = path.read_text()

    def full(self, data, **_):
        os.close(os.open(self, os.O_CREAT | os.O_WRONLY))
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match=r"No space left on device: .*leaks\.json"):
        write(mixed(), str(path))
    assert names(tmp_path) == ["leaks.json"]
    assert path.read_text() == before


def test_a_link_goes_on_pointing_where_it_pointed(tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "leaks.json"
    link.symlink_to(tmp_path / "store" / "today.json")
    write(mixed(), str(link))
    assert link.is_symlink()
    assert read(str(tmp_path / "store" / "today.json")) == mixed()


@pytest.mark.parametrize("name", [HOSTILE, MARKUP, STEERING, NO_UTF8, "", "{{REPORT}}", "日本語.txt"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_name_can_be_written_and_json_gives_it_back(tmp_path, name, suffix):
    path = str(tmp_path / f"leaks{suffix}")
    there = mixed(name)
    write(there, path)
    if suffix == ".json":
        assert read(path) == there


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found no JSON"),
        ("\ufeff{}", "found no JSON"),
        ('{"schema": "crawlo-leaks/1", "status"', "found no JSON"),
        ("[" * 100_000, "found no JSON"),
        ("[]", "found list for the file, expected an object"),
        ("{}", "found schema None, expected 'crawlo-leaks/1'"),
        ('{"schema": "crawlo-leaks/2"}', "found schema 'crawlo-leaks/2', expected 'crawlo-leaks/1'"),
        ('{"schema": "crawlo-leaks/1"}', "found nothing for 'status' of the report, expected str"),
    ],
)
def test_what_is_no_report_is_refused_with_what_was_found_and_expected(tmp_path, text, found):
    path = tmp_path / "foreign.json"
    path.write_text(text)
    with pytest.raises(ReportError) as raised:
        read(str(path))
    assert str(path) in str(raised.value)
    assert found in str(raised.value)
    assert "crawlo-leaks/1" in str(raised.value) or "expected" in str(raised.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "leaks.json").write_bytes(b"\x80\x81")
    with pytest.raises(ReportError, match="found no JSON"):
        read(str(tmp_path / "leaks.json"))


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "gone.json"))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: data["leaks"].append(7), "found int for leaks[1], expected an object"),
        (lambda data: data["leaks"][0].pop("count"), "found nothing for 'count' of leaks[0], expected int"),
        (lambda data: data["leaks"][0].update(count=True), "found True for 'count' of leaks[0], expected int"),
        (lambda data: data["leaks"][0].update(trace_id=5), "found 5 for 'trace_id' of leaks[0], expected str or null"),
        (lambda data: data["leaks"][0]["site"].pop("line"), "found nothing for 'line' of leaks[0].site, expected int"),
        (lambda data: data["leaks"][0]["stack"][1].update(file=None), "found None for 'file' of leaks[0].stack[1]"),
        (lambda data: data["process"].update(series=7), "found 7 for 'series' of process, expected list"),
        (
            lambda data: data["process"]["series"].append({"at": "x"}),
            "found 'x' for 'at' of process.series[0], expected int or float",
        ),
        (lambda data: data["process"].update(suspects=[{}]), "found nothing for 'quantity' of process.suspects[0]"),
        (lambda data: data["process"].update(type_changes=[7]), "found int for process.type_changes[0]"),
        (lambda data: data["process"].update(memory_sites=[{}]), "found nothing for 'file' of process.memory_sites[0]"),
        (lambda data: data.update(runs=[{}]), "found nothing for 'spider' of runs[0], expected str"),
        (lambda data: data["handles"].clear(), "found nothing for 'by_kind' of handles, expected dict"),
    ],
)
def test_a_damaged_report_is_refused_with_the_place_of_the_damage(tmp_path, damage, found):
    data = json.loads(report(entry()).as_json())
    damage(data)
    (tmp_path / "leaks.json").write_text(json.dumps(data))
    with pytest.raises(ReportError, match=re.escape(found)):
        read(str(tmp_path / "leaks.json"))


def test_a_report_with_series_and_runs_comes_back_whole_and_fits_the_schema(tmp_path):
    there = report(process=process(30), runs=[run(), run(1, after=None, duration_s=None)], runs_left_out=2)
    write(there, str(tmp_path / "leaks.json"))
    assert read(str(tmp_path / "leaks.json")) == there
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(there.as_json()))


def test_keys_of_a_later_version_are_passed_over(tmp_path):
    data = json.loads(mixed().as_json())
    data["later"] = data["leaks"][0]["later"] = data["leaks"][0]["site"]["later"] = 1
    (tmp_path / "leaks.json").write_text(json.dumps(data))
    assert [one.name for one in read(str(tmp_path / "leaks.json")).leaks] == [one.name for one in mixed().leaks]


def test_keys_of_the_schema_alone_are_enough(tmp_path):
    """Another program may write what DESIGN names and not what we add."""
    data = json.loads(report(entry(site=frame(text=""))).as_json())
    for key in ("generated_at", "command", "left_out"):
        del data[key]
    for one in (data["leaks"][0]["site"], *data["leaks"][0]["stack"]):
        del one["text"]
    (tmp_path / "leaks.json").write_text(json.dumps(data))
    found = read(str(tmp_path / "leaks.json"))
    for suffix in SUFFIXES:
        write(found, str(tmp_path / f"again{suffix}"))

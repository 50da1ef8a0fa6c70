from __future__ import annotations

from math import inf

import pytest

from crawlo_otel_leaks.settings import DEFAULT_THRESHOLDS, Settings


def read(**variables):
    return Settings.from_env({f"CRAWLO_OTEL_LEAKS_{name}": value for name, value in variables.items()})


def test_without_variables_all_is_default():
    assert read() == (Settings(), [])
    assert Settings().active
    assert Settings().grace == 30.0


def test_every_setting_is_read():
    settings, refused = read(
        ENABLED="no",
        LEVEL="FULL",
        THRESHOLDS="file=5, db.connection=0.5",
        GRACE="0",
        SCAN_INTERVAL="0.5",
        STACK_DEPTH="7",
        HOLD_SPANS="file,custom",
        HOLD_MIN="0",
        LEAK_SPANS="sampled",
        POOL_WAIT="0.5",
        IGNORE="*/vendor/*, http.session",
        REPORT="a.json:b.html",
        TRACE_URL="https://jaeger/trace/{trace_id}",
        LANG="ZH",
        CAPTURE_PATHS="false",
    )
    assert refused == []
    assert settings == Settings(
        enabled=False,
        level="full",
        thresholds={**DEFAULT_THRESHOLDS, "file": 5.0, "db.connection": 0.5},
        grace=0.0,
        scan_interval=0.5,
        stack_depth=7,
        hold_spans=frozenset({"file", "custom"}),
        hold_min=0.0,
        leak_spans="sampled",
        pool_wait=0.5,
        ignore=("*/vendor/*", "http.session"),
        report=("a.json", "b.html"),
        trace_url="https://jaeger/trace/{trace_id}",
        lang="zh",
        capture_paths=False,
    )


def test_an_infinite_threshold_switches_a_kind_off():
    assert read(THRESHOLDS="file=inf")[0].thresholds["file"] == inf


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("ENABLED", "maybe", "one of 1, true"),
        ("LEVEL", "loud", "one of off, sampled, full"),
        ("THRESHOLDS", "file", "kind=seconds"),
        ("THRESHOLDS", "fille=3", "kind one of file"),
        ("THRESHOLDS", "file=-3", "seconds above 0"),
        ("THRESHOLDS", "file=nan", "seconds above 0"),
        ("GRACE", "-1", "seconds, a number of at least 0"),
        ("GRACE", "inf", "seconds, a number of at least 0"),
        ("GRACE", "soon", "seconds, a number of at least 0"),
        ("SCAN_INTERVAL", "0", "seconds, a number of at least 0.01"),
        ("STACK_DEPTH", "0", "from 1 to 256"),
        ("STACK_DEPTH", "2.5", "from 1 to 256"),
        ("HOLD_SPANS", "files", "kinds, separated by commas, of file"),
        ("HOLD_MIN", "-0.1", "at least 0"),
        ("LEAK_SPANS", "some", "one of all, sampled, off"),
        ("REPORT", "leaks.pdf", "each ending in one of .html, .json, .sarif, .txt"),
        ("LANG", "fr", "one of en, zh"),
        ("CAPTURE_PATHS", "2", "one of 1, true"),
        ("TRACE_URL", "https://jaeger/trace/", "that contains {trace_id}"),
        ("TRACE_URL", "javascript:{trace_id}", "an http or https URL"),
    ],
)
def test_nonsense_is_refused_with_variable_value_and_what_is_accepted(name, value, accepted):
    settings, (message,) = read(**{name: value})
    assert settings == Settings()
    assert message.startswith(f"CRAWLO_OTEL_LEAKS_{name}={value!r} is refused: expected ")
    assert accepted in message


def test_a_misspelt_variable_is_told_with_those_that_exist():
    _, (message,) = read(TRESHOLDS="file=3")
    assert message.startswith("CRAWLO_OTEL_LEAKS_TRESHOLDS is no setting: expected one of ")
    assert "CRAWLO_OTEL_LEAKS_THRESHOLDS" in message


def test_one_bad_value_spoils_no_other():
    settings, refused = read(GRACE="soon", LEVEL="full")
    assert (settings.grace, settings.level, len(refused)) == (30.0, "full", 1)


@pytest.mark.parametrize("off", [{"ENABLED": "0"}, {"LEVEL": "off"}])
def test_off_is_not_active(off):
    assert not read(**off)[0].active

"""Many processes' leaks, ranked out of what a collector's file exporter writes."""

from __future__ import annotations

import json

import pytest
import report_samples

from crawlo_otel_leaks import cli, fleet, semconv

SECOND = 10**9
NOON = 1_764_072_000 * SECOND


def typed(value):
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def attributes(**named):
    return [{"key": key.replace("_", "."), "value": typed(value)} for key, value in named.items()]


def resource(process, host=None):
    told = {"service_name": "shop", "service_instance_id": process, **({"host_name": host} if host else {})}
    return {"attributes": attributes(**told)}


def leak(fingerprint="f1", reason="abandoned", count=1, handle=1, **more):
    told = {
        "crawlo_handle_kind": "file",
        "crawlo_handle_id": handle,
        "crawlo_leak_count": count,
        "crawlo_leak_held": 1.5,
    }
    place = {"code_file_path": "/srv/app.py", "code_line_number": 7}
    named = attributes(crawlo_leak_fingerprint=fingerprint, crawlo_leak_reason=reason, **told, **place, **more)
    return [*named, {"key": "code.function.name", "value": {"stringValue": "load"}}]


def line(kind, scopes, items, of):
    group = {
        "resource": of,
        scopes: [
            {
                "scope": {"name": semconv.SCOPE},
                {"scopeSpans": "spans", "scopeLogs": "logRecords", "scopeMetrics": "metrics"}[scopes]: items,
            }
        ],
    }
    return json.dumps({kind: [group]}, separators=(",", ":")) + "\n"


def spans(of, *leaks, at=NOON):
    made = [
        {
            "traceId": "ab" * 16,
            "spanId": "cd" * 8,
            "parentSpanId": "ef" * 8,
            "name": "leak file",
            "endTimeUnixNano": str(at),
            "attributes": one,
        }
        for one in leaks
    ]
    ordinary = {"traceId": "ab" * 16, "spanId": "ef" * 8, "name": "page", "endTimeUnixNano": str(at), "attributes": []}
    return line("resourceSpans", "scopeSpans", [ordinary, *made], of)


def event(of, told, name=semconv.LEAK_DETECTED, at=NOON):
    record = {"timeUnixNano": str(at), "eventName": name, "attributes": told, "traceId": "ab" * 16, "spanId": "ef" * 8}
    return line("resourceLogs", "scopeLogs", [record, {"timeUnixNano": "1", "body": {"stringValue": "hello"}}], of)


def counter(of, count, fingerprint="f1"):
    point = {
        "attributes": attributes(
            crawlo_leak_fingerprint=fingerprint, crawlo_leak_reason="abandoned", crawlo_handle_kind="file"
        ),
        "asInt": str(count),
        "timeUnixNano": str(NOON + 99 * SECOND),
    }
    metrics = [
        {"name": semconv.METRIC_LEAK_COUNT, "sum": {"dataPoints": [point]}},
        {"name": "http.server.duration", "histogram": {}},
    ]
    return line("resourceMetrics", "scopeMetrics", metrics, of)


@pytest.fixture
def ranked(tmp_path):
    def rank(*lines):
        path = tmp_path / "telemetry.jsonl"
        path.write_text("".join(lines))
        return fleet.read([str(path)])

    return rank


def test_the_widest_spread_comes_first_processes_then_hosts_then_handles(ranked):
    ranking = ranked(
        spans(resource("p1", "h1"), leak("narrow", count=5000), leak("more", count=9), leak("wide"), leak("hosts")),
        spans(resource("p2", "h1"), leak("more", count=9), leak("wide"), leak("few", count=2)),
        spans(resource("p3", "h2"), leak("wide"), leak("hosts"), leak("few", count=2)),
        spans(resource("p4", "h2"), leak("few", count=2)),
    )
    shown = [(one.fingerprint, one.processes, len(one.hosts), one.handles) for one in ranking.standings]
    assert shown == [
        ("few", 3, 2, 6),
        ("wide", 3, 2, 3),
        ("hosts", 2, 2, 2),
        ("more", 2, 1, 18),
        ("narrow", 1, 1, 5000),
    ]
    assert (len(ranking.processes), ranking.hosts) == (4, {"h1", "h2"})


def test_what_span_event_and_metric_tell_of_the_same_leaks_is_counted_once(ranked):
    of = resource("p1", "h1")
    ranking = ranked(
        spans(of, leak(handle=1), leak(handle=2, count=2)), event(of, leak()), counter(of, 2), counter(of, 3)
    )
    (one,) = ranking.standings
    assert (one.handles, one.reasons) == (3, {"abandoned": 3})


def test_a_handle_accused_for_two_reasons_is_one_handle(ranked):
    of = resource("p1")
    (one,) = ranked(spans(of, leak(reason="owner_finished"), leak(reason="abandoned"))).standings
    assert (one.handles, one.reasons) == (1, {"owner_finished": 1, "abandoned": 1})


def test_first_and_last_seen_are_those_of_spans_and_events_not_of_exports(ranked):
    of = resource("p1")
    late, early = NOON + 60 * SECOND, NOON - 60 * SECOND
    (one,) = ranked(
        spans(of, leak(), at=late), event(of, leak(), at=early), spans(of, leak()), counter(of, 1)
    ).standings
    assert (one.first_ns, one.last_ns) == (early, late)


def test_a_release_after_the_accusation_is_told(ranked):
    of = resource("p1")
    ranking = ranked(event(of, leak()), event(of, leak(), semconv.LEAK_RESOLVED))
    (one,) = ranking.standings
    assert (one.resolved, one.handles) == (1, 1)
    assert "1 of those announced were released later" in fleet.render(ranking)


def test_without_an_instance_a_process_is_its_host_and_number(ranked):
    of = [{"attributes": attributes(service_name="shop", host_name="h1", process_pid=pid)} for pid in (1, 2)]
    assert len(ranked(*(spans(one, leak()) for one in of)).processes) == 2


def test_other_telemetry_and_fingerprints_beyond_the_cap_are_no_leaks(ranked):
    ranking = ranked(spans(resource("p1")), counter(resource("p1"), 7, semconv.OTHER))
    assert ranking.standings == []
    assert fleet.render(ranking) == "NO LEAKS TOLD\n"


def test_half_a_line_is_told_and_the_rest_is_read(ranked):
    ranking = ranked(spans(resource("p1"), leak()), spans(resource("p2"), leak())[:150])
    assert [one.processes for one in ranking.standings] == [1]
    assert len(ranking.unread) == 1
    assert "telemetry.jsonl:2" in fleet.render(ranking)


@pytest.mark.parametrize(
    "odd",
    [
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"crawlo.leak.reason","value":{"stringValue":"x"}}]}]}]}]}',
        '{"resourceSpans":[7]}',
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":3}]}]}]}',
        '{"resourceSpans":7}',
        "[]",
    ],
)
def test_a_line_of_another_shape_is_told_and_the_rest_is_read(ranked, odd):
    ranking = ranked(spans(resource("p1"), leak()), odd + "\n", "\n", spans(resource("p2"), leak()))
    assert [one.processes for one in ranking.standings] == [2]
    assert len(ranking.unread) == 1


def test_the_command_shows_it_writes_it_and_exits_1(tmp_path, capsys):
    path, json_path, text_path = (tmp_path / name for name in ("t.jsonl", "fleet.json", "fleet.txt"))
    path.write_text(spans(resource("p1", "h1"), leak()) + spans(resource("p2", "h2"), leak(count=3)))
    assert cli.main(["report", str(path), "--report", str(json_path), "--report", str(text_path)]) == 1
    out = capsys.readouterr().out
    assert "LEAKS: 1 fingerprint in 2 processes on 2 hosts, 4 handles" in out
    for told in (
        "/srv/app.py:7 in load",
        f"trace       {'ab' * 16}  span {'ef' * 8}",
        "first 2025-11-25 12:00:00+00:00",
    ):
        assert told in out
    assert text_path.read_text() == out
    (one,) = json.loads(json_path.read_text())["fingerprints"]
    assert (one["processes"], one["hosts"], one["handles"], one["first_seen"]) == (2, ["h1", "h2"], 4, NOON / SECOND)


def test_reports_of_single_processes_are_ranked_together_with_otlp(tmp_path, capsys):
    reports = [tmp_path / f"{number}.json" for number in (1, 2)]
    shared = report_samples.entry(1, count=2)
    for number, path in enumerate(reports, 1):
        own = report_samples.entry(number + 1)
        path.write_text(report_samples.report(shared, own, report_samples.entry(9, reason="slow")).as_json())
    otlp = tmp_path / "t.jsonl"
    otlp.write_text(spans(resource("p1"), leak(shared.fingerprint)))
    target = tmp_path / "out.json"
    assert cli.main(["report", *map(str, reports), str(otlp), "--report", str(target)]) == 1
    told = json.loads(target.read_text())
    ranks = [(one["fingerprint"], one["processes"], one["handles"]) for one in told["fingerprints"]]
    assert ranks[0] == (shared.fingerprint, 3, 5)
    assert len(ranks) == 3
    assert "in 3 processes" in capsys.readouterr().out


def test_otlp_without_leaks_exits_0(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text(spans(resource("p1")))
    assert cli.main(["report", str(path)]) == 0
    assert capsys.readouterr().out == "NO LEAKS TOLD\n"


@pytest.mark.parametrize("suffix", ["html", "sarif"])
def test_formats_that_tell_of_one_process_are_refused(tmp_path, capsys, suffix):
    path = tmp_path / "t.jsonl"
    path.write_text(spans(resource("p1"), leak()))
    assert cli.main(["report", str(path), "--report", str(tmp_path / f"r.{suffix}")]) == 2
    assert "of many processes there is .json and .txt" in capsys.readouterr().err


def test_a_name_that_would_steer_the_terminal_does_not(ranked):
    of = {"attributes": attributes(service_name="\x1b[2Jshop", service_instance_id="p1")}
    assert "\x1b" not in fleet.render(ranked(spans(of, leak("f\x1b[2J"))))

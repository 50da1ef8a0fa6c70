from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from report_samples import HOSTILE, NO_UTF8, entry, frame, mixed, report

from crawlo_otel_leaks.report import reasons, sarif


def objects(required, **properties):
    """An object of SARIF 2.1.0, whose schema lets no other property through."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def arrays(items, **limits):
    return {"type": "array", "items": items, **limits}


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 1}
MESSAGE = objects(["text"], text=TEXT, markdown=TEXT)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
LOCATION = objects(
    [],
    physicalLocation=objects(
        ["artifactLocation"],
        artifactLocation=objects(["uri"], uri={"type": "string", "format": "uri-reference"}, uriBaseId=TEXT),
        region=objects([], startLine=COUNT),
    ),
    logicalLocations=arrays(objects([], fullyQualifiedName=TEXT, kind=TEXT), uniqueItems=True),
)
RULE = objects(
    ["id"],
    id=TEXT,
    name=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=MESSAGE,
    defaultConfiguration=objects([], level=LEVEL),
)
RESULT = objects(
    ["message"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=MESSAGE,
    locations=arrays(LOCATION),
    stacks=arrays(objects(["frames"], frames=arrays(objects([], location=LOCATION))), uniqueItems=True),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    occurrenceCount=COUNT,
    properties={"type": "object"},
)
RUN = objects(
    ["tool"],
    tool=objects(["driver"], driver=objects(["name"], name=TEXT, version=TEXT, rules=arrays(RULE, uniqueItems=True))),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results=arrays(RESULT),
    properties={"type": "object"},
)
LOG = objects(["version", "runs"], **{"$schema": TEXT}, version={"const": "2.1.0"}, runs=arrays(RUN))


def rendered(there):
    """The run, after a look whether it is what the standard's own schema asks of what we use of it."""
    log = json.loads(sarif.render(there))
    jsonschema.Draft202012Validator(LOG).validate(log)
    return log["runs"][0]


def uri(file):
    result = rendered(report(entry(site=frame(file=str(file)))))["results"][0]
    return result["locations"][0]["physicalLocation"]["artifactLocation"]


def test_there_is_a_rule_for_each_reason_with_words_of_help():
    rules = rendered(report())["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(reasons.REASONS)
    for rule in rules:
        told = reasons.REASONS[rule["id"]]
        assert rule["shortDescription"]["text"].endswith(told.title.lower())
        assert told.why in rule["help"]["text"]
        assert told.remedy in rule["help"]["text"]
        assert "_" not in rule["name"]


def test_a_result_points_to_its_rule_line_stack_and_fingerprint():
    run = rendered(report(entry(count=3)))
    result = run["results"][0]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "owner_finished"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 42}
    assert [
        step["location"]["logicalLocations"][0]["fullyQualifiedName"] for step in result["stacks"][0]["frames"]
    ] == [
        "fetch",
        "handle_request",
    ]
    assert result["partialFingerprints"] == {"crawloLeak/v1": f"{1:016x}"}
    assert result["occurrenceCount"] == 3
    assert result["message"]["text"].startswith("3 x file /data/page-1.html, held 5 min 12 s. The span or task")


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({"reason": "abandoned"}, "error"),
        ({"reason": "held_too_long"}, "warning"),
        ({"reason": "process_exit"}, "warning"),
        ({"reason": "slow"}, "note"),
        ({"reason": "scope_end"}, "error"),
        ({"reason": "scope_end", "resolved": True}, "note"),
    ],
)
def test_the_level_is_the_confidence_of_the_verdict(changed, level):
    assert rendered(report(entry(**changed)))["results"][0]["level"] == level


def test_a_resolved_leak_is_told_as_such():
    told = rendered(report(entry(resolved=True)))["results"][0]["message"]["text"]
    assert told.endswith("not counted.")


def test_a_file_below_the_working_directory_is_named_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert uri(tmp_path / "src" / "a b%.py") == {"uri": "src/a%20b%25.py", "uriBaseId": "%SRCROOT%"}


def test_a_file_elsewhere_is_named_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert uri("/srv/shop/ä.py") == {"uri": "file:///srv/shop/%C3%A4.py"}


@pytest.mark.parametrize(("file", "named"), [("<string>", "%3Cstring%3E"), ("?", "%3F"), (NO_UTF8, "caf%E9.txt")])
def test_what_is_no_path_is_still_a_valid_reference(file, named):
    assert uri(file)["uri"] == named


def test_a_line_that_is_not_known_is_the_first():
    result = rendered(report(entry(site=frame(line=0))))["results"][0]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}


def test_odd_reports_are_valid_too():
    odd = rendered(report(entry(stack=[], name=""), entry(reason="stolen", count=0), left_out=4))
    assert "stacks" not in odd["results"][0]
    assert odd["results"][0]["message"]["text"].startswith("1 x file, held")
    assert "ruleIndex" not in odd["results"][1]
    assert odd["properties"] == {"status": "leak_detected", "left_out": 4}
    assert len(rendered(mixed(HOSTILE))["results"]) == 5


def test_the_check_of_these_tests_refuses_what_is_no_sarif():
    log = json.loads(sarif.render(mixed()))
    for damage in ({"version": "2.0.0"}, {"runs": [{}]}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(LOG).validate({**log, **damage})


def test_the_working_directory_itself_is_never_in_the_log():
    assert str(Path.cwd()) not in json.dumps(rendered(report(entry(site=frame(file=str(Path.cwd() / "a.py"))))))

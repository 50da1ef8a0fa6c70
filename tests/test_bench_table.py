"""The benchmarks' table: what its docs and picture are made of."""

from __future__ import annotations

import importlib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_new_table_takes_the_place_of_the_old_one_of_its_version(script):
    document = "a\n<!-- 3.11 -->\nold\n<!-- /3.11 -->\nb\n<!-- 3.13 -->\nkept\n<!-- /3.13 -->\n"
    done = script("table").put_into(document, "3.11", "new")
    assert done == "a\n<!-- 3.11 -->\n\nnew\n\n<!-- /3.11 -->\nb\n<!-- 3.13 -->\nkept\n<!-- /3.13 -->\n"


def test_a_document_without_a_place_for_it_is_refused(script):
    with pytest.raises(SystemExit, match=r"3\.12"):
        script("table").put_into("no marks", "3.12", "new")


def test_a_goal_that_was_missed_is_said_to_be(script):
    table = script("table")
    line = table.Line("work", "1 us", "2.0", "<= 1.1", False, {})
    assert "MISSED" in table.markdown([line])
    assert "MISSED" not in table.markdown([line._replace(met=True)])


def test_the_picture_is_well_formed_and_names_each_ratio(script):
    picture = ET.fromstring(script("chart").svg({"a & b": {"tracked": 1.25, "contrib": 2.5}}, "how <it> was"))
    words = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {"a & b", "1.25", "2.50", "how <it> was"} <= set(words)

from __future__ import annotations

import sys

from crawlo_otel_leaks.instrumentation import _task_notes
from crawlo_otel_leaks.instrumentation._task_notes import REACH, above_of


def deep(frames):
    return deep(frames - 1) if frames else above_of(sys._getframe())


def test_the_frames_above_are_noted_code_and_instruction_in_turns(monkeypatch):
    def root():
        return deep(1)

    monkeypatch.setattr(_task_notes, "ROOT", root.__code__)
    noted = root()
    assert noted[::2] == (deep.__code__, deep.__code__)
    assert all(type(instruction) is int for instruction in noted[1::2])


def test_there_is_an_end_to_them():
    assert len(deep(3 * REACH)) == 2 * REACH


def test_nobody_above_is_nothing():
    assert above_of(None) == ()

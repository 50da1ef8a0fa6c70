"""Tasks under watch, for the tests of them."""

from __future__ import annotations

import pytest

from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor


@pytest.fixture
def tasks_watched(rig):
    """Tasks are watched."""
    TasksInstrumentor().instrument()
    rig.runtime.tick()
    yield rig
    TasksInstrumentor().uninstrument()

"""Child processes under watch, for the tests of them."""

from __future__ import annotations

import contextlib
import os
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.instrumentation.multiprocessing import MultiprocessingInstrumentor
from crawlo_otel_leaks.instrumentation.subprocesses import SubprocessesInstrumentor

WATCHING = (FilesInstrumentor, SubprocessesInstrumentor, MultiprocessingInstrumentor)


@pytest.fixture
def children_watched(rig):
    """Child processes and files are watched; what a test leaves behind is killed and waited for."""
    for instrumentor in WATCHING:
        instrumentor().instrument()
    rig.runtime.tick()
    before = set(_children())
    yield rig
    for instrumentor in WATCHING:
        instrumentor().uninstrument()
    for pid in set(_children()) - before - _helpers():
        os.kill(pid, 9)
        with contextlib.suppress(ChildProcessError):  # a thread of asyncio's was faster
            os.waitpid(pid, 0)


def _helpers():
    """Return the processes that multiprocessing starts once, for all."""
    return {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid}


def _children():
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in file.read_text(encoding="ascii").split()]

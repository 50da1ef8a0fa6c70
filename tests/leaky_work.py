"""Everything that a detector of leaks looks at is watched, and things to leak."""

from __future__ import annotations

import threading

import aiohttp
import pytest

from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.instrumentation.tasks import TasksInstrumentor
from crawlo_otel_leaks.instrumentation.threads import ThreadsInstrumentor

INSTRUMENTORS = (FilesInstrumentor, AiohttpInstrumentor, TasksInstrumentor, ThreadsInstrumentor)


class Ticking:
    """A hand-driven clock on which no two moments are the same."""

    def __init__(self, clock):
        self._clock = clock

    def __call__(self):
        self._clock.advance(1e-6)
        return self._clock()


@pytest.fixture
def all_watched(rig):
    """Files, sessions, tasks and threads are watched."""
    rig.runtime.tracker.clock = Ticking(rig.clock)
    for instrumentor in INSTRUMENTORS:
        instrumentor().instrument()
    rig.runtime.tick()
    yield rig
    for instrumentor in INSTRUMENTORS:
        instrumentor().uninstrument()


@pytest.fixture
def idlers():
    """Start so many threads that wait until they are told to end, at the latest by the test's end."""
    event, started = threading.Event(), []

    def start(count):
        for _ in range(count):
            started.append(threading.Thread(target=event.wait, args=(60,), daemon=True))
            started[-1].start()

    def end():
        event.set()
        for thread in started:
            thread.join(10)

    start.end = end
    yield start
    end()


class Sessions:
    """So many sessions, which a coroutine opens and another closes."""

    def __init__(self):
        self.open = []

    async def take(self, count):
        self.open += [aiohttp.ClientSession() for _ in range(count)]

    async def give_back(self):
        while self.open:
            await self.open.pop().close()


@pytest.fixture
def sessions():
    return Sessions()

"""Under what a round runs: untracked, tracked, or what a user would pick instead."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
import tracemalloc
import warnings
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.instrumentation.dependencies import get_dependency_conflicts

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from works import Work

FRAMES: Final = 16
"""Frames that tracemalloc keeps."""
USER: Final = "benchmark"
CONTRIB: Final = {
    "aiohttp": "aiohttp_client:AioHttpClientInstrumentor",
    "asyncpg": "asyncpg:AsyncPGInstrumentor",
    "redis": "redis:RedisInstrumentor",
    "sqlalchemy": "sqlalchemy:SQLAlchemyInstrumentor",
    "httpx": "httpx:HTTPXClientInstrumentor",
    "urllib3": "urllib3:URLLib3Instrumentor",
}


class Rival:
    """Nothing at all; others derive from it."""

    part: float = 1
    """Of a round, how much is done under it: what takes ten times as long needs no longer rounds than others."""

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Be active for the time of a round."""
        del work
        yield

    def later(self) -> float:
        """Do what the round leaves to be done; return the seconds that it took because of the round."""
        return 0.0


class Tracked(Rival):
    """Our own instrumentation of a library, or of all; its detector ticks once after each round, on its bill."""

    def __init__(self, library: str, level: str = "sampled", *, accelerator: bool = False) -> None:
        found = entry_points(group="opentelemetry_instrumentor")
        points = [point for point in found if point.name.startswith(f"crawlo_leaks_{library}")]
        exact = [point for point in points if point.name == f"crawlo_leaks_{library}"]
        self._settings = Settings(level=level, scan_interval=1e6, top=False, accelerator=accelerator)
        # A running detector, so that sites are known from round to round, as they are in a program.
        self._running = runtime.start(USER, self._settings)
        self._instrumentors = [point.load()() for point in exact or points]

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Instrument."""
        del work
        for instrumentor in self._instrumentors:
            instrumentor.instrument(settings=self._settings, raise_exception_on_conflict=False)
        try:
            yield
        finally:
            for instrumentor in self._instrumentors:
                instrumentor.uninstrument()

    def later(self) -> float:
        """Tick twice: what the first takes longer than the second is the round's doing."""
        if self._running is None:
            return 0.0
        return self._tick() - self._tick()

    def _tick(self) -> float:
        start = time.perf_counter()
        if self._running is not None:
            self._running.tick()
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop the detector; a failure of ours makes the numbers void."""
        errors = self._running.tracker.errors if self._running else 0
        runtime.stop(USER)
        if errors:
            raise SystemExit(f"{errors} failures of the tracker itself: the numbers are void")


class Tracemalloc(Rival):
    """The standard library's allocation tracer."""

    part = 0.1

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Trace."""
        del work
        tracemalloc.start(FRAMES)
        try:
            yield
        finally:
            tracemalloc.stop()


class Warned(Rival):
    """ResourceWarning always shown, and asyncio's debug mode."""

    part = 0.2

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Warn."""
        slow = logging.getLogger("asyncio")
        slow.setLevel(logging.ERROR)  # what it tells of this busy machine is not the point
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            if work.loop is not None:
                work.loop.set_debug(True)
            try:
                yield
            finally:
                if work.loop is not None:
                    work.loop.set_debug(False)


class Contrib(Rival):
    """OpenTelemetry's own instrumentation of the same library."""

    part = 0.4

    def __init__(self, library: str) -> None:
        module, name = CONTRIB[library].split(":")
        found: Any = getattr(importlib.import_module(f"opentelemetry.instrumentation.{module}"), name)
        self._instrumentor = found()
        self.refusal = get_dependency_conflicts(self._instrumentor.instrumentation_dependencies())
        """Why it does not instrument the release of the library that is installed."""

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Instrument."""
        keywords = {} if work.engine is None else {"engine": work.engine}
        self._instrumentor.instrument(**keywords)
        try:
            yield
        finally:
            self._instrumentor.uninstrument()

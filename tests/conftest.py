"""Shared by all tests: a clock that only moves when told, a detector without its thread, telemetry in memory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from garbage import freeze
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from crawlo_otel_leaks import ResourceManager, runtime, semconv
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.tenure import MODULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
    from opentelemetry.sdk.trace import ReadableSpan

    from crawlo_otel_leaks.model import Finding, Handle, Leak

os.environ["LC_ALL"] = "C.UTF-8"  # reports are told in English, wherever the tests run
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has ignored by what is in the background
GRACE = 10.0
SCAN = 1.0
ACCELERATOR = os.environ.get("CRAWLO_OTEL_LEAKS_ACCELERATOR") != "0"


def accelerator() -> Any:
    """Return what is in C; skip where it is not installed."""
    return pytest.importorskip(MODULE, reason="crawlo-otel-leaks-accelerator is not installed: make accelerator")


def needs_accelerator() -> None:
    """Skip the rest of a module where it is not installed, or not to be used."""
    accelerator()
    if not ACCELERATOR:
        pytest.skip("the environment says that the accelerator is not to be used", allow_module_level=True)


def pytest_collection_finish() -> None:
    """Spare each test's collections what was imported."""
    freeze()


class Clock:
    """Monotonic seconds that pass only in `advance`."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Recorder:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.opened_leaks: list[Leak] = []
        self.resolved_leaks: list[Leak] = []
        self.released_handles: list[Handle] = []

    def opened(self, leak: Leak, finding: Finding) -> None:
        self.opened_leaks.append(leak)

    def resolved(self, leak: Leak, finding: Finding) -> None:
        self.resolved_leaks.append(leak)

    def released(self, handles: Sequence[Handle]) -> None:
        self.released_handles.extend(handles)


class Reacting(Recorder):
    """A sink that does something whenever a leak is opened."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__()
        self._what = what

    def opened(self, leak: Leak, finding: Finding) -> None:
        self._what()


class Rig:
    """A whole runtime on a hand-driven clock, without thread, exit hooks or sleeping."""

    def __init__(self, settings: Settings) -> None:
        self.clock = Clock()
        self.runtime = runtime.Runtime(settings, self.clock)
        # The clock stands still within a test's step: every hold would be too brief to be told by itself.
        self.runtime.tracker.brief = 0.0
        self.runtime.vitals.pause = lambda _seconds: None
        self.recorder = Recorder()
        self.runtime.detector.sinks.append(self.recorder)

    def pass_time(self, seconds: float, steps: int = 1) -> None:
        """Let time pass, with a detector tick after each of `steps` equal parts."""
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            self.runtime.tick()

    def settle(self) -> None:
        """Let everything that is due by owner, loop, scope or abandonment come out (not what is held too long)."""
        self.pass_time(3 * GRACE, steps=30)

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Kind and reason of every leak opened so far, in order."""
        return [(leak.kind, leak.reason.value) for leak in self.recorder.opened_leaks]

    @property
    def held(self) -> list[Handle]:
        return list(self.runtime.tracker.held())


@pytest.fixture
def settings() -> Settings:
    """Override in a module or class to test other settings."""
    return Settings(grace=GRACE, scan_interval=SCAN, accelerator=ACCELERATOR)


@pytest.fixture
def rig(settings: Settings) -> Iterator[Rig]:
    """The rig is the process's runtime: instrumentors and the public verbs use it."""
    made = Rig(settings)
    runtime._runtime = made.runtime
    yield made
    assert made.runtime.tracker.errors == 0, "the tracker failed within itself: see the log"
    runtime._runtime = None
    runtime._users.clear()


@contextlib.contextmanager
def watching(rig: Rig, *instrumentors: BaseInstrumentor) -> Iterator[None]:
    """Have libraries watched, from a first look on."""
    for one in instrumentors:
        one.instrument()
    rig.runtime.tick()
    yield
    for one in reversed(instrumentors):
        one.uninstrument()


class Telemetry:
    """What left through the SDK."""

    def __init__(
        self, spans: InMemorySpanExporter, logs: InMemoryLogRecordExporter, reader: InMemoryMetricReader
    ) -> None:
        self._spans, self._logs, self._reader = spans, logs, reader

    def clear(self) -> None:
        self._spans.clear()
        self._logs.clear()

    def spans(self, prefix: str = "") -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name.startswith(prefix)]

    def events(self, name: str = "") -> list[Any]:
        return [
            data.log_record
            for data in self._logs.get_finished_logs()
            if (data.log_record.event_name or "").startswith(name)
        ]

    def metrics(self, scope: str = semconv.SCOPE) -> dict[str, list[Any]]:
        """Newest data points by metric name, of ours alone unless told: redis-py, say, has some of the same names."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else [])
            for emitted in resource.scope_metrics
            if emitted.scope.name.startswith(scope)
            for metric in emitted.metrics
        }


@pytest.fixture(scope="session")
def _sdk() -> Telemetry:
    """One SDK for the whole session: OpenTelemetry's globals can be set once."""
    spans, logs, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    _logs.set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([reader]))
    return Telemetry(spans, logs, reader)


@pytest.fixture(autouse=True)
def telemetry(_sdk: Telemetry) -> Telemetry:
    _sdk.clear()
    return _sdk


@pytest.fixture
def tracer() -> trace.Tracer:
    return trace.get_tracer("tests")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file, made before anything is watched."""
    made = tmp_path / "data.txt"
    made.write_text("one\ntwo\n")
    return made


@pytest.fixture
def instrumentor(rig: Rig) -> Iterator[FilesInstrumentor]:
    """Watches files when told; the test's end undoes it."""
    yield FilesInstrumentor()
    FilesInstrumentor().uninstrument()


@pytest.fixture
def instrumented(path: Path, instrumentor: FilesInstrumentor) -> None:
    """Files are watched from here on."""
    instrumentor.instrument()


@pytest.fixture
def managed() -> ResourceManager:
    return ResourceManager("tests")


@pytest.fixture
def log() -> list[object]:
    """What cleanup functions were called with."""
    return []


@pytest.fixture
def noting(log: list[object]) -> Callable[[object], None]:
    """Cleanup functions that note the resource."""
    return log.append

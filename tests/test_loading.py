"""Programs under the real loader: `opentelemetry-instrument python program.py`, each in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

BIN = Path(sys.executable).parent
QUIET = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
CONTRIB = "aiohttp-client"

OURS = sorted(
    entry.name
    for entry in importlib.metadata.entry_points(group="opentelemetry_instrumentor")
    if entry.name.startswith("crawlo_leaks_")
)

LOOK = """
import builtins, json, logging, sys
facts = {"imported early": "aiohttp" in sys.modules}
from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor
from opentelemetry.instrumentation.dependencies import DependencyConflictError
facts["runs"] = runtime.current() is not None
facts["files"] = type(builtins.open).__name__ == "Stand"
try:
    import aiohttp
    facts["aiohttp"] = type(vars(aiohttp.ClientSession)["close"]).__name__ == "Stand"
    from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
    facts["contrib"] = AioHttpClientInstrumentor().is_instrumented_by_opentelemetry
except ModuleNotFoundError as error:
    facts["missing"] = error.name
    try:
        AiohttpInstrumentor().instrument(skip_dep_check=True)
    except DependencyConflictError as conflict:
        facts["conflict"] = str(conflict)
print(json.dumps(facts))
"""

CRAWL = """
import asyncio
import aiohttp
from aiohttp import web
from opentelemetry import trace

kept = []

async def large(request):
    return web.Response(body=bytes(8_000_000))

async def fetch(session, url):
    with trace.get_tracer("program").start_as_current_span("work"):
        kept.append(await session.get(url))
        (await session.get(url)).close()

async def main():
    application = web.Application()
    application.router.add_get("/", large)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    session = aiohttp.ClientSession()
    await asyncio.create_task(fetch(session, "http://127.0.0.1:%d/" % runner.addresses[0][1]))
    sys.modules["crawlo_otel_leaks.runtime"].current().finish(exiting=False)
    await session.close()
    await runner.cleanup()

import sys
asyncio.run(main())
"""

BY_HAND = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from crawlo_otel_leaks.instrumentation.aiohttp import AiohttpInstrumentor

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
for instrumentor in ({order}):
    instrumentor().instrument()
"""

HIDE = """
import importlib.metadata, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "aiohttp":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def from_name(name, plain=importlib.metadata.Distribution.from_name):
    if name == "aiohttp":
        raise importlib.metadata.PackageNotFoundError(name)
    return plain(name)

sys.meta_path.insert(0, Blocker())
importlib.metadata.Distribution.from_name = from_name
"""

BREAK = """
from crawlo_otel_leaks.instrumentation import aiohttp

def broken(tracker):
    raise RuntimeError("broken on purpose")

aiohttp.Client = broken
"""

RENAME = """
import aiohttp

aiohttp.ClientSession.unhook = aiohttp.ClientSession.detach
del aiohttp.ClientSession.detach
"""

OURS_FIRST = """
from opentelemetry.instrumentation.auto_instrumentation import _load

def ours_first(plain=_load.entry_points, **which):
    return sorted(plain(**which), key=lambda entry: entry.name != "crawlo_leaks_aiohttp")

_load.entry_points = ours_first
"""


class Ended(NamedTuple):
    """What is left of a program."""

    out: str
    errors: str
    report: dict[str, object]

    @property
    def facts(self):
        return json.loads(self.out.splitlines()[-1])

    @property
    def spans(self):
        """What the console exporter wrote: JSON documents, one after the other."""
        decoder, spans, at = json.JSONDecoder(), [], self.out.find("{")
        while at >= 0:
            span, end = decoder.raw_decode(self.out, at)
            spans.append(span)
            at = self.out.find("{", end)
        return spans


@pytest.fixture
def load(tmp_path):
    """Run a program under the loader, after a hook that the loader itself calls first."""

    def run(program, *, hook="", by_loader=True, **environment):
        (tmp_path / "program.py").write_text(program)
        write_plugin(tmp_path / "plugins", hook)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CRAWLO_"))}
        report = tmp_path / "report.json"
        ended = subprocess.run(
            [*([BIN / "opentelemetry-instrument"] if by_loader else []), sys.executable, tmp_path / "program.py"],
            env={
                **kept,
                **QUIET,
                "PYTHONPATH": str(tmp_path / "plugins"),
                "CRAWLO_OTEL_LEAKS_REPORT": str(report),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return Ended(ended.stdout, ended.stderr, json.loads(report.read_text()) if report.exists() else {})

    return run


def write_plugin(folder, hook):
    """Write a distribution whose hook the loader calls before it loads any instrumentor."""
    info = folder / "before_ours-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "before_ours.py").write_text(hook + "\ndef done():\n    pass\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: before-ours\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[opentelemetry_pre_instrument]\nbefore_ours = before_ours:done\n")


def test_without_contrib_both_of_ours_are_loaded_and_import_nothing(load):
    facts = load(LOOK, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=CONTRIB).facts
    assert facts == {"imported early": False, "runs": True, "files": True, "aiohttp": True, "contrib": False}


def test_with_contrib_all_are_loaded(load):
    facts = load(LOOK).facts
    assert facts == {"imported early": True, "runs": True, "files": True, "aiohttp": True, "contrib": True}


@pytest.mark.parametrize("one", ["files", "aiohttp"])
def test_each_of_ours_can_be_disabled_alone(load, one):
    facts = load(LOOK, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=f"crawlo_leaks_{one}").facts
    assert {name: facts[name] for name in ("files", "aiohttp", "contrib")} == {
        "files": one != "files",
        "aiohttp": one != "aiohttp",
        "contrib": True,
    }


@pytest.mark.parametrize(
    "environment",
    [
        {"CRAWLO_OTEL_LEAKS_ENABLED": "false"},
        {"CRAWLO_OTEL_LEAKS_LEVEL": "off"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ", ".join(OURS)},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_switched_off_nothing_of_ours_runs_and_others_do(load, environment):
    ended = load(LOOK, **environment)
    assert ended.facts == {"imported early": True, "runs": False, "files": False, "aiohttp": False, "contrib": True}
    assert ended.report == {}


def test_with_aiohttp_absent_the_loader_goes_on_with_the_others(load):
    ended = load(LOOK, hook=HIDE + OURS_FIRST)
    assert '"aiohttp >= 3.9"' in ended.facts["conflict"]
    rest = {name: fact for name, fact in ended.facts.items() if name != "conflict"}
    assert rest == {"imported early": False, "runs": True, "files": True, "missing": "aiohttp"}
    assert "Traceback" not in ended.errors


def test_a_setup_of_ours_that_raises_stays_inert_and_the_loader_goes_on(load):
    ended = load(LOOK, hook=BREAK + OURS_FIRST)
    assert ended.facts == {"imported early": True, "runs": True, "files": True, "aiohttp": False, "contrib": True}
    assert ended.errors.count("AiohttpInstrumentor stays inert: RuntimeError('broken on purpose')") == 1


def leaks(report):
    return sorted((leak["kind"], leak["reason"], leak["site"]["function"]) for leak in report["leaks"])


def test_a_renamed_method_leaves_the_rest_working_and_is_told_once(load):
    ended = load(CRAWL, hook=RENAME)
    assert ("http.connection", "owner_finished", "fetch") in leaks(ended.report)
    assert ended.errors.count("ClientSession.detach failed and goes on without tracking") == 1


def assert_seen_inside_its_trace(ended, *, contrib):
    spans = {span["name"]: span for span in ended.spans}
    work, leaked = spans["work"], spans["leak http.connection"]
    assert leaked["parent_id"] == work["context"]["span_id"]
    assert leaked["context"]["trace_id"] == work["context"]["trace_id"]
    assert leaked["attributes"]["code.function.name"].endswith("fetch")
    assert [span["name"] for span in ended.spans if span["kind"] == "SpanKind.CLIENT"] == ["GET", "GET"] * contrib
    assert leaks(ended.report) == [("http.connection", "owner_finished", "fetch")]


@pytest.mark.parametrize("contrib", [True, False], ids=["with contrib", "without contrib"])
def test_under_the_loader_a_leak_is_seen_inside_its_trace(load, contrib):
    disabled = "" if contrib else CONTRIB
    ended = load(CRAWL, OTEL_TRACES_EXPORTER="console", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled)
    assert_seen_inside_its_trace(ended, contrib=contrib)


@pytest.mark.parametrize(
    "order",
    ["AiohttpInstrumentor, AioHttpClientInstrumentor", "AioHttpClientInstrumentor, AiohttpInstrumentor"],
    ids=["ours first", "contrib first"],
)
def test_in_either_order_a_leak_is_seen_inside_its_trace(load, order):
    ended = load(BY_HAND.format(order=order) + CRAWL, by_loader=False)
    assert_seen_inside_its_trace(ended, contrib=True)


def test_a_clean_program_under_the_loader_reports_nothing(load):
    clean = CRAWL.replace("kept.append(await session.get(url))", "(await session.get(url)).close()")
    ended = load(clean, OTEL_TRACES_EXPORTER="console")
    assert ended.report["status"] == "healthy"
    assert [span["name"] for span in ended.spans if span["name"].startswith("leak")] == []

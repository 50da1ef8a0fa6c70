"""Crawlo's guide, as printed, under the agent; and Crawlo's own tests of leaks, as its 1.5.4 wheel has them."""

from __future__ import annotations

import importlib.machinery
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import programs
import pytest

from crawlo_otel_leaks import LeakDetector, ResourceManager
from crawlo_otel_leaks.guide import leak_check, leak_detector, resource_leak_monitor, resource_manager
from crawlo_otel_leaks.instrumentation.crawlo_guide import MODULES, CrawloGuideInstrumentor, GuideFinder

DOCUMENT = Path(__file__).parent.parent / "docs" / "crawlo.md"
LEAK_TESTS = 11
DETECTION = "test_resource_leak_detection.py"
"""Imports modules that Crawlo never shipped: it cannot run without ours."""

RUN_ALL = """
import pathlib, runpy, sys, traceback
if {ours}:
    from crawlo_otel_leaks.guide import resource_manager
    sys.modules["crawlo.utils.resource_manager"] = resource_manager
for path in sorted(pathlib.Path({tests!r}).glob("test_*_leak*.py")):
    sys.argv = [str(path)]
    try:
        runpy.run_path(str(path), run_name="__main__")
        print("passed", path.name, flush=True)
    except SystemExit as end:
        print("failed" if end.code else "passed", path.name, flush=True)
    except Exception:
        traceback.print_exc()
        print("failed", path.name, flush=True)
"""

SNIPPET = """
from crawlo.utils.leak_detector import get_leak_detector
from crawlo.utils.resource_manager import get_resource_manager
from crawlo.utils.resource_leak_monitor import monitor_crawler

leak_detector = get_leak_detector("my_detector")
resource_manager = get_resource_manager("my_manager")
leak_detector.set_baseline("start")
kept = {work}
leak_detector.snapshot("after_operation")
analysis = leak_detector.analyze()
print(analysis["status"])

@monitor_crawler("my_spider")
async def run_my_spider():
    return 3

import asyncio
print(asyncio.run(run_my_spider()))
print(resource_manager.__class__.__module__)
"""


@pytest.fixture(scope="session")
def crawlo_with_tests(tmp_path_factory):
    """Crawlo 1.5.4, which has its tests in its wheel, beside the installed one."""
    where = tmp_path_factory.mktemp("crawlo")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", where, "crawlo==1.5.4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"PyPI cannot be reached: {done.stderr[-200:]}")
    (wheel,) = where.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(where / "crawlo-1.5.4")
    return where / "crawlo-1.5.4"


@pytest.fixture
def instrumented_guide():
    CrawloGuideInstrumentor().instrument()
    yield
    CrawloGuideInstrumentor().uninstrument()


def module(where, arguments, **settings):
    """Run `python -m` under the agent."""
    command = [programs.INSTRUMENT, sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=where, env=programs.environment(None, **settings), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("ours", [False, True], ids=["with Crawlo's manager", "with ours behind its name"])
def test_crawlos_own_leak_tests_pass(tmp_path, crawlo_with_tests, monkeypatch, ours):
    monkeypatch.setenv("PYTHONPATH", str(crawlo_with_tests))
    done = programs.run(tmp_path, RUN_ALL.format(tests=str(crawlo_with_tests / "tests"), ours=ours), timeout=300)
    results = [line.split() for line in done.stdout.splitlines() if line.startswith(("passed ", "failed "))]
    assert [name for result, name in results if result == "failed"] == [], done.stderr
    assert len(results) == LEAK_TESTS
    assert ["passed", DETECTION] in results


def test_without_us_one_of_them_cannot_be_imported(tmp_path, crawlo_with_tests, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(crawlo_with_tests))
    source = (crawlo_with_tests / "tests" / DETECTION).read_text()
    done = programs.run(tmp_path, source, instrumented=False)
    assert "No module named 'crawlo.utils.leak_detector'" in done.stderr


@pytest.mark.parametrize(
    ("work", "status"), [("open(__file__)", "leak_detected"), ("open(__file__).close()", "healthy")]
)
def test_the_guides_snippets_run_as_printed(tmp_path, work, status):
    done = programs.run(tmp_path, SNIPPET.format(work=work))
    assert done.stdout.split() == [status, "3", "crawlo.utils.resource_manager"], done.stderr


def test_the_snippets_of_our_own_guide_run_too(tmp_path):
    text = DOCUMENT.read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    done = programs.run(tmp_path, "\n".join(snippets))
    assert done.returncode == 0, done.stderr
    assert len(snippets) == 4
    assert done.stdout.splitlines()[0] == "healthy", done.stderr


def test_they_run_too_where_tracking_is_switched_off_and_say_that_little_is_known(tmp_path):
    done = programs.run(tmp_path, SNIPPET.format(work="open(__file__)"), ENABLED="false")
    assert done.stdout.split()[:2] == ["insufficient_data", "3"], done.stderr


def test_a_module_that_crawlo_has_is_never_replaced(tmp_path, monkeypatch):
    package = tmp_path / "own" / "crawlo" / "utils"
    package.mkdir(parents=True)
    for where in (package.parent, package):
        (where / "__init__.py").touch()
    (package / "leak_detector.py").write_text("OWN = True")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))
    done = programs.run(
        tmp_path,
        """
        import crawlo.utils.leak_detector, crawlo.utils.resource_leak_monitor
        print(crawlo.utils.leak_detector.OWN)
        print(crawlo.utils.resource_leak_monitor.ResourceLeakMonitor.__module__)
        """,
    )
    assert done.stdout.split() == ["True", "crawlo_otel_leaks.monitor"], done.stderr


def test_the_names_behind_the_guides_paths_are_ours(instrumented_guide):
    pytest.importorskip("crawlo")
    from crawlo.utils import leak_detector as found  # noqa: PLC0415  (found only while instrumented)

    assert found.LeakDetector is LeakDetector
    for name in ("leak_detector", "resource_leak_monitor"):
        sys.modules.pop(f"crawlo.utils.{name}", None)


def test_every_module_of_the_guide_exports_what_it_is_imported_for():
    assert leak_detector.LeakDetector is LeakDetector
    assert resource_manager.ResourceManager is ResourceManager
    assert set(resource_leak_monitor.__all__) == {"ResourceLeakMonitor", "monitor_crawler", "monitor_resource_leaks"}


def test_the_finder_finds_the_guide_alone_and_goes_with_the_instrumentor(instrumented_guide):
    assert isinstance(sys.meta_path[-1], GuideFinder)  # asked last
    assert GuideFinder().find_spec("crawlo.utils.other", None) is None
    assert {name for name in MODULES if GuideFinder().find_spec(name, None)} == set(MODULES)
    CrawloGuideInstrumentor().uninstrument()
    assert not any(isinstance(finder, GuideFinder) for finder in sys.meta_path)
    CrawloGuideInstrumentor().instrument()


def test_leak_check_runs_as_a_module_and_refuses_a_spider_that_is_not_there(tmp_path):
    done = module(tmp_path, ["crawlo.tools.leak_check", "no.such.spiders", "NoSuchSpider"])
    assert done.returncode == 2
    assert done.stderr


def test_leak_check_hands_its_arguments_to_the_check_command(monkeypatch):
    given = []
    check = types.ModuleType("crawlo_otel_leaks.leak_check")
    check.__spec__ = importlib.machinery.ModuleSpec(check.__name__, None)
    check.main = lambda argv: given.append(argv) or 1
    monkeypatch.setitem(sys.modules, check.__name__, check)
    monkeypatch.setattr(sys, "argv", ["leak_check", "myproject.spiders", "MySpider", "--duration", "600"])
    assert leak_check.main() == 1
    assert given == [["myproject.spiders", "MySpider", "--duration", "600"]]


CRAWL = """
import asyncio, http.server, threading

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<title>page</title>")
    def log_message(self, *args): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()

import aiohttp
from crawlo import Field, Item, Spider
from crawlo.crawler import CrawlerProcess
from crawlo.utils.leak_detector import LeakDetector
from crawlo.utils.resource_leak_monitor import monitor_crawler

kept = []

class Page(Item):
    url = Field()

class Quotes(Spider):
    name = "quotes"
    start_urls = ["http://127.0.0.1:%d/%d" % (server.server_port, number) for number in range(20)]
    async def parse(self, response):
        if {leaks}:
            kept.append(aiohttp.ClientSession())
        item = Page()
        item["url"] = response.url
        yield item

SETTINGS = dict(
    RUN_MODE="standalone", QUEUE_TYPE="memory", DOWNLOAD_DELAY=0, RANDOMNESS=False, LOG_LEVEL="ERROR",
    DOWNLOADER="crawlo.downloader.AioHttpDownloader", PIPELINES={{}}, EXTENSIONS=[],
)

async def crawl():
    await CrawlerProcess(settings=SETTINGS).crawl(Quotes)

around = LeakDetector("around")
around.set_baseline()
monitor = monitor_crawler("quotes")
asyncio.run(monitor(crawl)())
around.snapshot()
for told in (around.analyze(), monitor.analysis):
    print("VERDICT", told["status"], told["changes"]["objects"] > 10_000, told["changes"]["file_descriptors"] > 10)
    for leak in told["potential_leaks"]:
        print("LEAK", leak["type"], leak["growth"], leak["sites"][0]["line"], leak["sites"][0]["function"])
"""


def test_a_healthy_spider_measured_before_its_first_run_is_healthy(tmp_path):
    """By more than 10 000 objects and 10 descriptors, which a fixed threshold would accuse."""
    done = programs.run(tmp_path, CRAWL.format(leaks=False))
    told = [line for line in done.stdout.splitlines() if line.startswith(("VERDICT", "LEAK"))]
    assert told == ["VERDICT healthy True True"] * 2, done.stdout + done.stderr


def test_a_spider_that_leaves_a_session_for_each_page_is_told_with_its_line(tmp_path):
    done = programs.run(tmp_path, CRAWL.format(leaks=True))
    line = 1 + CRAWL.splitlines().index("            kept.append(aiohttp.ClientSession())")
    told = [line.split() for line in done.stdout.splitlines() if line.startswith(("VERDICT", "LEAK"))]
    assert [words[1] for words in told if words[0] == "VERDICT"] == ["leak_detected"] * 2, done.stdout + done.stderr
    for words in (one for one in told if one[0] == "LEAK"):
        assert words[1:4] == ["http_sessions", "20", str(line)]
        assert words[4].endswith("parse")


ALONE = """
from crawlo_otel_leaks import LeakDetector
detector = LeakDetector()
detector.set_baseline()
kept = open(__file__) if {leaks} else open(__file__).close()
detector.snapshot()
print(detector.analyze()["status"])
"""


@pytest.mark.parametrize(("leaks", "status"), [(True, "leak_detected"), (False, "healthy")])
def test_a_script_that_is_not_instrumented_need_only_ask(tmp_path, leaks, status):
    done = programs.run(tmp_path, ALONE.format(leaks=leaks), instrumented=False)
    assert done.stdout.split() == [status], done.stderr
    assert done.returncode == 0

"""Run CPython's own tests of files, sockets and child processes untracked and tracked, and compare every outcome.

    python tests/cpython/compare.py [MODULE ...]

Exit code: 0 the same, 1 something differs (its names are printed), 3 this interpreter has no `test` package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODULES = (
    "test.test_io",
    "test.test_file",
    "test.test_fileio",
    "test.test_tempfile",
    "test.test_pathlib",
    "test.test_asyncio.test_streams",
    "test.test_asyncio.test_subprocess",
    "test.test_popen",
    "test.test_subprocess",
    "processes_fork",
    "processes_forkserver",
    "processes_spawn",
    "test.test_socket",
    "test.test_ssl",
    "test.test_selectors",
    "test.test_mmap",
    "test.test_asyncio.test_selector_events",
    "test.test_asyncio.test_sslproto",
    "test.test_asyncio.test_server",
)
MODES = ("untracked", "tracked")
LIMIT = 280.0
"""Seconds that one module may take in one mode."""
RETRIES = 2
HANGING = "VSOCK"
"""In the ids of tests that wait for ever on machines which let nobody connect to themselves so, watched or not."""
SAME, DIFFERENT, NO_TESTS = 0, 1, 3


class Outcomes(unittest.TestResult):
    """What became of each test, by its id."""

    def __init__(self):
        super().__init__()
        self.by_id = {}

    def _note(self, test, outcome):
        self.by_id[test.id()] = outcome

    def addSuccess(self, test):  # noqa: N802  (unittest's names, here and below)
        self.by_id.setdefault(test.id(), "ok")

    def addFailure(self, test, err):  # noqa: N802
        super().addFailure(test, err)
        self._note(test, "fail")

    def addError(self, test, err):  # noqa: N802
        super().addError(test, err)
        self._note(test, "error")

    def addSkip(self, test, reason):  # noqa: N802
        self._note(test, "skip")

    def addExpectedFailure(self, test, err):  # noqa: N802
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test):  # noqa: N802
        self._note(test, "unexpected success")

    def addSubTest(self, test, subtest, err):  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "fail" if issubclass(err[0], test.failureException) else "error")

    def telling(self):
        """Return the tracebacks by id."""
        return {test.id(): text for test, text in (*self.failures, *self.errors)}


class Seen:
    """A sink that counts the handles whose end was seen."""

    def __init__(self):
        self.count = 0

    def opened(self, leak, finding):
        self.count += leak.reason.value == "abandoned"

    def resolved(self, leak, finding):
        """Nothing: it is released too."""

    def released(self, handles):
        self.count += len(handles)


def track():
    """Start all there is: the wrappers, the detector's thread at a pace that meets every test, and a span."""
    from opentelemetry import context, trace  # noqa: PLC0415  (only a tracked child imports these)
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from crawlo_otel_leaks import runtime  # noqa: PLC0415
    from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor  # noqa: PLC0415
    from crawlo_otel_leaks.instrumentation.mmap import MmapInstrumentor  # noqa: PLC0415
    from crawlo_otel_leaks.instrumentation.multiprocessing import MultiprocessingInstrumentor  # noqa: PLC0415
    from crawlo_otel_leaks.instrumentation.selectors import SelectorsInstrumentor  # noqa: PLC0415
    from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor  # noqa: PLC0415
    from crawlo_otel_leaks.instrumentation.subprocesses import SubprocessesInstrumentor  # noqa: PLC0415
    from crawlo_otel_leaks.settings import Settings  # noqa: PLC0415

    trace.set_tracer_provider(TracerProvider())
    settings = Settings(level="full", scan_interval=0.05, grace=0.05)
    files, processes = (FilesInstrumentor, MmapInstrumentor), (SubprocessesInstrumentor, MultiprocessingInstrumentor)
    for instrumentor in (*files, SocketsInstrumentor, SelectorsInstrumentor, *processes):
        instrumentor().instrument(settings=settings)
    context.attach(trace.set_span_in_context(trace.get_tracer("compare").start_span("tests")))
    running = runtime.current()
    running.detector.sinks.append(Seen())
    return running


def child(mode, module, only, output):
    """Run one module in this process and write its outcomes to a file."""
    running = track() if mode == "tracked" else None
    from test import support  # noqa: PLC0415  (after `track`, as a program's imports are)

    support.use_resources = ()
    outcomes = Outcomes()
    selected(unittest.defaultTestLoader.loadTestsFromName(module), only).run(outcomes)
    report = {"outcomes": outcomes.by_id, "telling": outcomes.telling()}
    if running is not None:
        running.tick()
        report |= {"seen": running.detector.sinks[-1].count, "errors": running.tracker.errors}
    Path(output).write_text(json.dumps(report))


def selected(suite, only):
    """Return those tests of a suite whose ids are in `only`, all where that is empty."""
    chosen = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            chosen.addTest(selected(test, only))
        elif HANGING not in test.id() and (not only or test.id() in only):
            chosen.addTest(test)
    return chosen


def run(mode, module, only=()):
    """Run one module in a process and a directory of its own; return what it reports."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "report.json")
        work = Path(place, "work")
        work.mkdir()
        command = [sys.executable, __file__, "--child", mode, "--output", output, module, *only]
        try:
            done = subprocess.run(command, cwd=work, timeout=LIMIT, capture_output=True, check=False, text=True)
        except subprocess.TimeoutExpired:
            return {"outcomes": {}, "died": f"ran longer than {LIMIT:g} s"}
        if not output.exists():
            return {"outcomes": {}, "died": f"exit code {done.returncode}\n{done.stderr[-2000:]}"}
        return json.loads(output.read_text())


def run_both(module, only=()):
    """Run one module in both modes, side by side."""
    with ThreadPoolExecutor(len(MODES)) as pool:
        return list(pool.map(lambda mode: run(mode, module, only), MODES))


def differing(untracked, tracked):
    """Return the ids whose outcomes are not the same."""
    before, after = untracked["outcomes"], tracked["outcomes"]
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def compare(module):
    """Return how many handles were tracked and what differs, seen anew in every retry; print the counts."""
    untracked, tracked = run_both(module)
    counts = Counter(untracked["outcomes"].values())
    seen, errors = tracked.get("seen", 0), tracked.get("errors", 0)
    tell(f"{module}: {sum(counts.values())} tests, {dict(sorted(counts.items()))}, {seen} handles tracked")
    pairs = zip(MODES, (untracked, tracked), strict=True)
    problems = [f"{mode}: {module} {ran['died']}" for mode, ran in pairs if "died" in ran]
    if errors:
        problems.append(f"tracked: {module}: {errors} failures within the tracker")
    return seen, problems or confirmed(module, untracked, tracked)


def confirmed(module, untracked, tracked):
    """Return the differences that outlive the retries."""
    names = differing(untracked, tracked)
    for _ in range(RETRIES if names else 0):
        tell(f"  again: {' '.join(names)}")
        untracked, tracked = run_both(module, names)
        names = differing(untracked, tracked)
    return [describe(name, untracked, tracked) for name in names]


def tell(line):
    """Print a line of the command's output now."""
    print(line, flush=True)  # noqa: T201  (this is a command)


def describe(name, untracked, tracked):
    """Return both outcomes of a test, and what went wrong in either."""
    texts = (ran.get("telling", {}).get(name, "") for ran in (untracked, tracked))
    outcomes = (ran["outcomes"].get(name, "not run") for ran in (untracked, tracked))
    return f"{name}: untracked {next(outcomes)}, tracked {next(outcomes)}\n" + "".join(texts)


def main():
    """Parse the command, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--child", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.modules[0], set(options.modules[1:]), options.output)
        return SAME
    try:
        import test.test_io  # noqa: F401, PLC0415  (Debian's python3 has a `test` package without the tests)
    except ImportError:
        tell(f"skipped: Python {sys.version.split()[0]} at {sys.executable} has no `test` package")
        return NO_TESTS
    results = [compare(module) for module in options.modules or MODULES]
    problems = [problem for _, found in results for problem in found]
    if not any(seen for seen, _ in results):
        problems.append("tracked: not one handle was seen, so nothing was compared")
    tell("\n".join(problems) if problems else "the same tracked as untracked")
    return DIFFERENT if problems else SAME


if __name__ == "__main__":
    sys.exit(main())

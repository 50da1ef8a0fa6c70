"""The layers themselves are checked by import-linter, from the contract in pyproject."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "crawlo_otel_leaks"
HOT = ("model", "sites", "owner", "tracker", "rules", "holds", "watch", "findings", "detector")


def imported(module):
    """Names of what a module imports when it runs: what stands below TYPE_CHECKING is for the type checker."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_layers_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", HOT)
def test_the_hot_path_imports_no_sdk_no_emitter_and_nothing_lazily(module):
    names = list(imported(module))
    assert [name for name in names if name.startswith("opentelemetry.sdk")] == []
    assert [name for name in names if "emitters" in name or "instrumentation" in name] == []


def test_no_module_of_the_hot_path_hides_an_import_in_a_function():
    for module in HOT:
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        hidden = [n for f in functions for n in ast.walk(f) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert hidden == []


def test_every_file_is_short_and_says_what_it_is_for():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") < 300, path
        first = ast.get_docstring(ast.parse(text)) or ""
        assert first, path
        assert "\n" not in first, path

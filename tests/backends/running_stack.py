"""A folder and a stack of real programs for each module that asks for it; nothing of it in `make test`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Callable[..., stack.Program]]:
    """A function that starts a program of `stack`, which ends with the module."""
    if lacking := stack.missing():
        pytest.skip(lacking)
    with ExitStack() as programs:

        def run(kind: Callable[..., stack.Program], *arguments: object, **environment: str) -> stack.Program:
            program = kind(tmp_path_factory.mktemp("stack"), *arguments, **environment)
            programs.callback(program.stop)
            return program.start()

        yield run

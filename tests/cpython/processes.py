"""The quick ones of CPython's own tests of multiprocessing, which its installers leave in one file without a start."""

from __future__ import annotations

import unittest

CHOSEN = (
    "OtherTest",
    "TestCloseFds",
    "TestConnection",
    "TestPool",
    "TestPoolWorkerErrors",
    "TestPoolWorkerLifetime",
    "TestProcess",
    "TestQueue",
    "TestStartMethod",
    "TestSubclassingProcess",
)


def install(module: dict[str, object], method: str) -> None:
    """Put those tests that use processes into a module, for one way of starting them."""
    from test import _test_multiprocessing  # noqa: PLC0415  (not every interpreter has it)

    _test_multiprocessing.install_tests_in_module_dict(module, method)
    for name, thing in list(module.items()):
        case = isinstance(thing, type) and issubclass(thing, unittest.TestCase)
        if case and name.removeprefix("WithProcesses") not in CHOSEN:
            del module[name]

"""What the tests of child processes have in common: children of each kind, and requests that leave them."""

from __future__ import annotations

import os
import subprocess
import sys

from opentelemetry import trace

tracer = trace.get_tracer("tests")
LEAK = ("subprocess", "owner_finished")
ABANDONED = ("subprocess", "abandoned")
SLEEP = ["sleep", "60"]
# Its arguments are a secret; it does nothing, for as long as it is not told to end.
WAITING = [sys.executable, "-c", "import signal; signal.pause()", "--password=secret"]


def request(work, *args, **kwargs):
    with tracer.start_as_current_span("request"):
        return work(*args, **kwargs)


def ended(child):
    """Wait for a child's end, and leave its exit status to somebody else."""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


def zombie(**kwargs):
    return ended(subprocess.Popen("false", **kwargs))


def alive(rig):
    rig.runtime.tick()
    return [handle for handle in rig.held if handle.kind == "subprocess"]


def kill(*children):
    for child in children:
        child.kill()
        child.wait()

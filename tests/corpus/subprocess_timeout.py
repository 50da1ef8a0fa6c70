"""`communicate(timeout=...)` kills nobody: `kill` and another `communicate` must follow, and are often forgotten."""

from __future__ import annotations

import subprocess

from opentelemetry import trace

SERVER = ""
LEAKS = [("subprocess", "abandoned", "forgets")]
tracer = trace.get_tracer("corpus")


def leaky(url: str) -> None:
    forgets()


def forgets():
    with tracer.start_as_current_span("job"):
        child = subprocess.Popen(["sleep", "5"], stdout=subprocess.PIPE)
        try:
            child.communicate(timeout=0.01)
        except subprocess.TimeoutExpired:
            return


def clean(url: str) -> None:
    with tracer.start_as_current_span("job"):
        child = subprocess.Popen(["sleep", "5"], stdout=subprocess.PIPE)
        try:
            child.communicate(timeout=0.01)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()

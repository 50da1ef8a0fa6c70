"""A handle that a test uses by hand, for the detector to judge."""

from __future__ import annotations

import sys

from crawlo_otel_leaks.model import NamedHandle, Progress


class Fake(NamedHandle):
    """A handle whose use and loop are set by hand."""

    __slots__ = ("closed", "token", "untouched", "visible", "waiting")

    def __init__(self, kind="file"):
        super().__init__(kind, "thing")
        self.token = 0
        self.visible = True
        self.untouched = None
        self.waiting = self.closed = False

    def progress(self):
        return Progress(self.token, untouched=self.untouched, visible=self.visible)

    def busy(self):
        return self.waiting

    def loop_closed(self):
        return self.closed


def take(rig, handle=None):
    """Acquire in a function that returns, so that nobody executes the acquiring function any more."""
    return rig.runtime.tracker.acquire(handle or Fake(), sys._getframe())

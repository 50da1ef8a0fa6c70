"""What the tests of the accelerator share."""

from __future__ import annotations

import sys

from garbage import collect

from crawlo_otel_leaks import swift
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.tracker import Tracker


def left_behind(work, forget):
    """Return how many blocks of memory 5000 turns of some work leave, once what they counted is forgotten."""

    def often(times):
        for _ in range(times):
            work()
        forget()
        collect()
        return sys.getallocatedblocks()

    often(300)
    before = often(300)
    return often(5000) - before


def forget_times(record):
    """Forget how long connections of a record's one pool were waited for and held."""
    (known,) = record.pools
    for counted in (known.waits, known.uses, record.tracker.brief_holds[record.kind]):
        counted.clear()


def line_of(handle):
    """Return the line of the nearest frame that acquired."""
    code, instruction = handle.site.frames[0]
    return next(line for start, end, line in code.co_lines() if start <= instruction < end)


class Clock:
    """Is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def trackers(**known):
    """Return one that acquires in Python and one that does so in C."""
    made = [Tracker(Sites(**known), Clock()) for _ in range(2)]
    assert swift.accelerate(made[1])
    return made

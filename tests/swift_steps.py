"""What the tests of the accelerator share."""

from __future__ import annotations

import sys

from garbage import collect


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

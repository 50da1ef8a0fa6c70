"""Monotonic seconds as the nanoseconds of the wall clock that telemetry carries."""

from __future__ import annotations

import time


def wall_ns(monotonic: float) -> int:
    """Return the nanoseconds since the epoch at which the monotonic clock showed `monotonic` seconds."""
    return time.time_ns() - round((time.monotonic() - monotonic) * 1e9)

"""Since when and until when a handle is held, of what kind, and what exempts it: kept in C where that is to be had."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.settings import Settings

MODULE: Final = "crawlo_otel_leaks_accelerator"


class Tenure:
    """The part of a handle that is no object."""

    __slots__ = ("acquired_at", "kind", "process", "released_at", "shared")

    acquired_at: float
    """Monotonic seconds; not there before it is held."""
    released_at: float | None
    kind: str
    process: bool
    """Belongs to the process by design: exempt from every verdict but `abandoned`."""
    shared: bool
    """Used by others than who took it: exempt from `owner_finished`."""


if not TYPE_CHECKING and Settings.from_env()[0].accelerator:
    with suppress(ImportError, AttributeError):  # it is not installed, or an older one: swift.py tells
        Tenure = importlib.import_module(MODULE).Tenure
BEGUN: Final = Tenure.__module__ == MODULE
"""Whether all but `acquired_at` and `kind` is there from the beginning, and need not be set."""

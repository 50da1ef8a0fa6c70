"""A weak reference that refers to nothing."""

from __future__ import annotations

import weakref
from typing import Any, Final


class _Nothing:
    """What a dead reference refers to."""


NONE: Final[weakref.ref[Any]] = weakref.ref(_Nothing())

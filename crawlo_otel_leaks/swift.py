"""The hot path in C, where `crawlo-otel-leaks-accelerator` is installed: it answers as the tracker's own methods do."""

from __future__ import annotations

import _thread
import asyncio
import functools
import importlib
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_current
from opentelemetry.trace import NonRecordingSpan
from opentelemetry.trace.propagation import _SPAN_KEY

from crawlo_otel_leaks import sites, tracker
from crawlo_otel_leaks.holds import Holds
from crawlo_otel_leaks.model import SCOPED, Handle, Site
from crawlo_otel_leaks.owner import (
    CALLER,
    MARKED,
    current_scope,
    current_task,
    end_of,
    running_loop,
    this_span,
    this_thread,
)
from crawlo_otel_leaks.stock import PLAIN, Stock
from crawlo_otel_leaks.tenure import MODULE

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.tracker import Tracker

_TERMS: Final = ("clock", "brief", "closed")
"""What C asks of a tracker again and again, and is told when it changes."""


class SwiftTracker(tracker.Tracker):
    """One that acquires and releases in C; what it has itself is read as fast as that of any other."""

    told: Callable[[str, object], None]

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name in _TERMS:
            self.told(name, value)


def accelerate(own: Tracker) -> bool:
    """Let a tracker acquire and release in C; False, and all as it was, where that is not to be had."""
    try:
        module = importlib.import_module(MODULE)
        if not issubclass(Handle, module.Tenure):
            return False  # the environment says that it is not to be used
        own.keep_in(Stock(module.Shelf, functools.partial(module.Shelf, 1), module.Index, module.Times, module.Ref))
        made = module.Swift(**_parts(own))
    except ImportError:
        return False
    except Exception as error:  # noqa: BLE001  (another release of it; Python does the same, later)
        own.keep_in(PLAIN)
        own.fail(MODULE, error)
        return False
    own.locate, own.acquire, own.hold, own.release = made.locate, made.acquire, made.hold, made.release  # type: ignore[method-assign]
    own.enter = made.enter  # type: ignore[method-assign]
    kinds = (module.Maker, module.Files, module.Taking, module.Asking)
    maker, files, taking, asking = (functools.partial(kind, swift=made) for kind in kinds)
    own.told, own.__class__ = made.tell, SwiftTracker  # type: ignore[attr-defined]  # it has it from here on
    own.accelerator = tracker.Accelerator(maker, module.Stand, files, taking, asking)
    own.sites.forgetters.append(made.forget)
    return True


def _parts(own: Tracker) -> dict[str, Any]:
    return {
        "tracker": own,
        "sites": own.sites,
        "young": own.young,
        "brief_holds": own.brief_holds,
        "release": own.release,
        "context": tracker.CONTEXT,
        "get_context": get_current,
        "suppress_key": _SUPPRESS_INSTRUMENTATION_KEY,
        "span_key": _SPAN_KEY,
        "caller": CALLER,
        "marked": MARKED,
        "plain_span": NonRecordingSpan,
        "this_span": this_span,
        "end_of": end_of,
        "running_loop": running_loop,
        "current_task": current_task,
        "current_tasks": getattr(asyncio.tasks, "_current_tasks", None),
        "this_thread": this_thread,
        "by_thread": any(kind.__module__ == _thread.__name__ for kind in type(this_thread).__mro__),
        "scope": current_scope,
        "scoped": SCOPED,
        "monotonic": time.monotonic,
        "handle_type": Handle,
        "site_type": Site,
        "holds_type": Holds,
        **{term: getattr(own, term) for term in _TERMS},
        "counted": tracker.COUNTED,
        "first": sites.FIRST,
        "every": sites.EVERY,
        "near_count": sites.NEAR,
        "depth": own.sites.depth,
        "full": own.sites.full,
    }

"""Begin to watch where nobody has: for a program that asks for a verdict without opentelemetry-instrument."""

from __future__ import annotations

import logging
import os
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.settings import Settings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # no __all__

_logger = logging.getLogger("crawlo_otel_leaks")
_GROUP: Final = "opentelemetry_instrumentor"
_OURS: Final = "crawlo_otel_leaks."
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_lock: Final = threading.Lock()
_started: list[BaseInstrumentor] = []


def begin() -> runtime.Runtime | None:
    """Return the running detector; where nothing is instrumented, instrument all that is installed first.

    None where the settings switch it off.
    """
    with _lock:
        running = runtime.current()
        if running is None and Settings.from_env()[0].active:
            for point in _points():
                _instrument(point)
            running = runtime.current()
        return running


def end() -> None:
    """Take back what `begin` instrumented."""
    with _lock:
        while _started:
            _started.pop().uninstrument()


def _points() -> list[EntryPoint]:
    disabled = {name.strip() for name in os.environ.get(_DISABLED, "").split(",")}
    if "*" in disabled:
        return []
    with suppress_instrumentation():  # it reads files, which are not the program's
        found = entry_points(group=_GROUP)
    return [point for point in found if point.value.startswith(_OURS) and point.name not in disabled]


def _instrument(point: EntryPoint) -> None:
    from opentelemetry.instrumentation.dependencies import DependencyConflictError  # noqa: PLC0415  (imports a lot)

    try:
        with suppress_instrumentation():
            made: BaseInstrumentor = point.load()()
        if not made.is_instrumented_by_opentelemetry:
            made.instrument(skip_dep_check=True)
            _started.append(made)
    except DependencyConflictError:  # its library is not installed
        return
    except Exception as error:  # noqa: BLE001  (one library's failure is its own)
        _logger.warning("crawlo_otel_leaks: %s stays inert: %r", point.name, error)

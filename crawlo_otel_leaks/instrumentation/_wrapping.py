"""From a table of wrap points to an OpenTelemetry instrumentor that restores all it touched."""

from __future__ import annotations

import abc
import functools
import inspect
import logging
import pkgutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import wrapt
from opentelemetry.instrumentation.dependencies import (
    DependencyConflict,
    DependencyConflictError,
    get_dependency_conflicts,
)
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # no __all__
from opentelemetry.instrumentation.utils import suppress_instrumentation

from crawlo_otel_leaks import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.tracker import Tracker

    Wrapper = Callable[..., Any]
    """Takes what it wraps, the instance, the positional and the keyword arguments; if direct, see `Point`."""

_logger = logging.getLogger("crawlo_otel_leaks")


class Point(NamedTuple):
    """One name to wrap: `module` as imported, `path` inside it, and who stands in front of it."""

    module: str
    path: str
    wrapper: Wrapper
    group: str = ""
    """Points of one module that make sense only together; in the table, the ends of a handle come first."""
    optional: bool = False
    """Whether some supported releases do without it."""
    direct: bool = False
    """Whether `wrapper(original, live)` makes the function that stands there itself, and passes through once `live`
    is empty: for a call that takes microseconds, of which wrapt's own way through would be a tenth."""


class Stand(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # generic in its stub alone
    """What stands in front of a name; it shows, copies and pickles as the function behind it does."""

    def __init__(self, original: Callable[..., Any], point: Point, live: list[bool]) -> None:
        # An empty list is false to wrapt, at no cost: names that others took keep this, and pass through.
        super().__init__(original, point.wrapper, live)  # type: ignore[arg-type]  # see above
        self._self_place = f"{point.module}:{point.path}"

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> Stand:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Stand:
        return self

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:  # type: ignore[override]
        return pkgutil.resolve_name, (self._self_place,)


class Instrumentor(BaseInstrumentor):  # type: ignore[misc]  # its base is untyped in some releases
    """Wraps a library's points when, and only if, the program imports it."""

    library: str = ""
    """Import name of the watched library, whose frames are plumbing; empty for the standard library."""
    requires: str = ""
    """What must be installed, as a requirement, or one of several between ` | `; the loader skips the check."""

    handles: tuple[type[Handle], ...] = ()
    """The kinds of handles it makes, which it lets go of when it is uninstrumented."""

    _running: runtime.Runtime | None = None

    @abc.abstractmethod
    def points(self, running: runtime.Runtime) -> list[Point]:
        """Return the table, once for each time it is instrumented; it serves uninstrument too."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the requirement, for OpenTelemetry's own check."""
        return (self._required(),) if self.requires else ()

    def _instrument(self, **kwargs: Any) -> None:
        conflict = self._conflict()
        if conflict is not None:
            raise DependencyConflictError(conflict)
        # The loader aborts every vendor's instrumentation on any other exception: none may leave here.
        try:
            running = runtime.start(type(self).__name__, kwargs.get("settings"))
            if running is not None:
                self._apply(running)
        except Exception as error:  # noqa: BLE001  (see above)
            _logger.warning("crawlo_otel_leaks: %s stays inert: %r", type(self).__name__, error)
            self._uninstrument()

    def _conflict(self) -> DependencyConflict | None:
        with suppress_instrumentation():  # it reads files, which are not the program's
            return get_dependency_conflicts(self.instrumentation_dependencies())

    def _required(self) -> str:
        """Return the requirement, of several the one that is met; else the first."""
        first, *others = self.requires.split(" | ")
        with suppress_instrumentation():
            return next((one for one in others if get_dependency_conflicts((one,)) is None), first)

    def _apply(self, running: runtime.Runtime) -> None:
        self._running = running
        self._live = [True]
        self._wrapped: list[tuple[Any, str, Any]] = []
        self._shared: dict[tuple[int, Wrapper], Callable[..., Any]] = {}
        self._broken: set[str] = set()
        if self.library:
            running.tracker.sites.hide(self.library)
        self._hooks: list[tuple[list[Any], Any]] = []
        hooks: tuple[list[Any], ...] = (running.finders, running.tracker.chores, running.tracker.resets)
        before = [len(kind) for kind in hooks]
        points = self.points(running)
        self._hooks += [(kind, hook) for kind, count in zip(hooks, before, strict=True) for hook in kind[count:]]
        for point in points:
            self._when_imported(point, running)

    def _when_imported(self, point: Point, running: runtime.Runtime) -> None:
        live = self._live

        def hook(_module: object) -> None:
            if live and point.group not in self._broken:
                self._try_wrap(point, running.tracker)

        wrapt.register_post_import_hook(hook, point.module)

    def _try_wrap(self, point: Point, tracker: Tracker) -> None:
        try:
            self._wrap(point)
        except Exception as error:  # noqa: BLE001  (it would come out of the program's import)
            # Another release of the library: what is there is watched, what is not is told. Without
            # the end of a handle, its beginning is not watched either.
            if not point.optional:
                tracker.fail(f"{point.module}.{point.path}", error)
            self._broken |= {point.group} - {""}

    def _wrap(self, point: Point) -> None:
        parent, name, original = wrapt.resolve_path(sys.modules[point.module], point.path)
        if any(original is stand for stand in self._shared.values()):
            return  # the library was imported later, and took the name that is wrapped already
        # Names of one object stay names of one object: `io.open is open`.
        handle = self._shared.get((id(original), point.wrapper))
        if handle is None:
            handle = self._stand(original, point)
            self._shared[id(original), point.wrapper] = handle
        wrapt.apply_patch(parent, name, handle)
        self._wrapped.append((parent, name, handle))

    def _stand(self, original: Callable[..., Any], point: Point) -> Callable[..., Any]:
        if not point.direct:
            return Stand(original, point, self._live)
        made: Callable[..., Any] = point.wrapper(original, self._live)
        if getattr(made, "__wrapped__", None) is not original:  # one of Python's functions
            functools.update_wrapper(made, original)
            if sys.version_info >= (3, 12) and inspect.iscoroutinefunction(original):
                inspect.markcoroutinefunction(made)
        return made

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        running, self._running = self._running, None
        if running is None:
            return
        self._live.clear()
        for parent, name, handle in reversed(self._wrapped):
            _unwrap(parent, name, handle)
        for kind, hook in self._hooks:
            kind.remove(hook)
        for held in running.tracker.held():
            if isinstance(held, self.handles):
                held.let_go()
                running.tracker.forget(held)
        runtime.stop(type(self).__name__)


_inert: list[tuple[Any, str, Any]] = []


def _unwrap(parent: Any, name: str, handle: Any) -> None:
    try:
        wrapt.unwrap_object(parent, name, handle, missing_ok=True)
    except (wrapt.WrapperNotOutermostError, wrapt.WrapperChainTooDeepError) as error:
        # Somebody wrapped ours with a plain closure: theirs stays, ours passes through from now on.
        _logger.info("crawlo_otel_leaks: %s.%s stays wrapped, inert: %s", parent, name, error)
        _inert.append((parent, name, handle))
        return
    for one in [one for one in _inert if one[0] is parent and one[1] == name]:  # it was below another of ours
        _inert.remove(one)
        _unwrap(*one)

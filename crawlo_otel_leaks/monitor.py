"""ResourceLeakMonitor, and the decorators that watch a function, or a block, from beginning to end."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crawlo_otel_leaks.leak_detector import LeakDetector
from crawlo_otel_leaks.monitored import Monitored, Plan
from crawlo_otel_leaks.stretch import Caller

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

F = TypeVar("F", bound="Callable[..., Any]")
INTERVAL: Final = 60.0
"""Seconds between two snapshots of what is monitored."""


class ResourceLeakMonitor:
    """A leak detector from `start_monitoring` to `stop_monitoring`, over the whole process."""

    def __init__(self, name: str = "default", *, threshold_mb: float = 10.0) -> None:
        self.name = name
        self.threshold_mb = threshold_mb
        self.leak_detector = LeakDetector(name)
        self.analysis: dict[str, Any] | None = None
        """What the last `stop_monitoring` returned."""
        self._is_monitoring = False

    def start_monitoring(self) -> None:
        """Begin, or begin anew: what is held now is nobody's leak."""
        self.leak_detector.clear()
        self.leak_detector.set_baseline("start")
        self._is_monitoring = True

    def take_snapshot(self, name: str = "") -> None:
        """Note how things are now."""
        self.leak_detector.snapshot(name)

    def stop_monitoring(self) -> dict[str, Any]:
        """Take a last snapshot and return the analysis; where nothing was started, that there is not enough data."""
        if self._is_monitoring:
            self.leak_detector.snapshot("stop")
        self._is_monitoring = False
        self.analysis = self.leak_detector.analyze(self.threshold_mb)
        return self.analysis


class monitor_resource_leaks:  # noqa: N801  (used as a decorator and as a verb: `with monitor_resource_leaks("a"):`)
    """Watch a function, sync or async, each call by itself; or a block, by `with` or `async with`.

    Around it there is a span `monitor {name}` with the verdict. What is acquired within and still held a grace after
    the end is a leak in the telemetry too. `threshold_mb` is the least growth of memory that counts, if it is a trend;
    `snapshot_interval` the seconds between snapshots, 0 for none; `types` whether objects are counted by type before
    and after, which stops all threads for some 0.1 s for each million. `analysis` is that of the last one to end.
    """

    def __init__(
        self,
        name: str = "default",
        threshold_mb: float = 10.0,
        snapshot_interval: float = INTERVAL,
        *,
        types: bool = True,
    ) -> None:
        _check_name(type(self).__name__, name)
        if snapshot_interval < 0:
            raise ValueError(f"found snapshot_interval={snapshot_interval!r}, expected seconds, or 0 for none")
        self.name = name
        self.analysis: dict[str, Any] | None = None
        self._plan = Plan(name, threshold_mb, snapshot_interval, types, self._attributes(), self._done)
        self._open: list[tuple[Caller, Monitored]] = []

    def __call__(self, function: F) -> F:
        """Return the function, watched."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"found generator function {function!r}, expected a function whose work is done when it returns; "
                "use `with` inside of it",
            )
        plan = self._plan
        watched: Any
        if inspect.iscoroutinefunction(function):

            async def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (the function's own)
                async with Monitored(plan):
                    return await function(*args, **kwargs)

        else:

            def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (the function's own)
                with Monitored(plan):
                    return function(*args, **kwargs)

        return functools.wraps(function)(watched)  # type: ignore[return-value]  # of the same signature

    def __enter__(self) -> Monitored:
        """Begin; what is returned has the leak detector, and in the end the analysis."""
        return self._opened().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, with a verdict."""
        self._closed().__exit__(kind, error, trace)

    async def __aenter__(self) -> Monitored:
        """Begin, as `__enter__`."""
        return await self._opened().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, as `__exit__`."""
        await self._closed().__aexit__(kind, error, trace)

    def _opened(self) -> Monitored:
        opened = Monitored(self._plan)
        self._open.append((Caller.here(), opened))
        return opened

    def _closed(self) -> Monitored:
        """Return the one that this task, or thread, has entered last; tasks and threads may enter side by side."""
        here = Caller.here()
        entry = next((one for one in reversed(self._open) if one[0] == here), self._open[-1])
        self._open.remove(entry)
        return entry[1]

    def _attributes(self) -> dict[str, str]:
        """Return what the owner of each handle is told to be, beside the name."""
        return {}

    def _done(self, told: dict[str, Any]) -> None:
        self.analysis = told


def _check_name(verb: str, name: object) -> None:
    """Refuse what a decorator without its parentheses gets."""
    if not isinstance(name, str):
        raise TypeError(f"{verb} got {name!r} for its name, expected a string: @{verb}('my_spider')")


class monitor_crawler(monitor_resource_leaks):  # noqa: N801  (as above)
    """Watch a function that runs a spider: its name is the spider's in all that is told of what it acquires."""

    def _attributes(self) -> dict[str, str]:
        return {"spider": self.name}

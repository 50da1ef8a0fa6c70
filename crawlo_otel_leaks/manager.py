"""ResourceManager: what is registered is cleaned up, in order, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypedDict
from weakref import WeakKeyDictionary

from crawlo_otel_leaks.managed import ManagedResource, ResourceStatus, ResourceType
from crawlo_otel_leaks.order import cleanup_order, cycle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import TracebackType

    from typing_extensions import Self

_logger = logging.getLogger("crawlo_otel_leaks")
TIMEOUT: Final = 30.0
"""Seconds that one cleanup function may take, unless the manager or the resource says otherwise."""
_OPEN: Final = (ResourceStatus.ACTIVE, ResourceStatus.ERROR)


class CleanupResult(TypedDict):
    """What a cleanup did. `duration` is seconds."""

    success: int
    errors: int
    duration: float
    total_resources: int
    cleaned_resources: int


class ResourceManager:
    """Cleans up what is registered with it: dependents first, then the last registered.

    One failure stops nothing; what failed stays listed, is found by `detect_leaks`, and is tried again by the next
    cleanup. `cleanup_timeout` is the seconds that each cleanup function may take, None for no limit. It may be used
    from several threads and event loops.
    """

    def __init__(self, name: str = "default", *, cleanup_timeout: float | None = TIMEOUT) -> None:
        self.name = name
        self.cleanup_timeout = cleanup_timeout
        self._resources: list[ManagedResource] = []
        self._registered = self._cleaned = self._failed = 0
        self._lock = threading.Lock()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def register(  # noqa: PLR0913, PLR0917  (Crawlo's)
        self,
        resource: Any,  # noqa: ANN401  (anything can be managed)
        cleanup_func: Callable[..., object],
        resource_type: ResourceType = ResourceType.OTHER,
        name: str | None = None,
        priority: int = 0,
        depends_on: Iterable[str] | None = None,
    ) -> ManagedResource:
        """Take charge of a resource. `cleanup_func`, sync or async, takes the resource or no argument.

        `depends_on` names what must outlive it, registered before or after. Raise ValueError where that makes a
        circle, TypeError for a cleanup function that takes something else.
        """
        managed = ManagedResource(
            resource, cleanup_func, resource_type, name, priority, depends_on, self.cleanup_timeout
        )
        with self._lock:
            circle = cycle([*self._resources, managed], managed.name)
            if circle:
                raise ValueError(
                    f"resource manager {self.name}: found a circle of dependencies, {' -> '.join(circle)}; "
                    f"expected an order in which they can be cleaned up; {managed.name} is not registered",
                )
            self._resources.append(managed)
            self._registered += 1
        managed.hold(sys._getframe(1))  # noqa: SLF001  (documented; frames of ours are passed over)
        return managed

    def register_with_dependencies(
        self,
        resource: Any,  # noqa: ANN401  (as above)
        cleanup_func: Callable[..., object],
        resource_type: ResourceType,
        name: str,
        depends_on: Iterable[str] | None = None,
    ) -> ManagedResource:
        """Take charge of a resource that depends on others, which are cleaned up after it."""
        return self.register(resource, cleanup_func, resource_type, name, depends_on=depends_on)

    async def cleanup_all(self, reverse: bool = True) -> CleanupResult:  # noqa: FBT001, FBT002  (Crawlo's)
        """Clean up everything; with `reverse=False`, the first registered first, as far as dependencies allow."""
        started = time.monotonic()
        success, errors = await self._clean(lambda _: True, reverse=reverse)
        return {
            "success": success,
            "errors": errors,
            "duration": time.monotonic() - started,
            "total_resources": success + errors,
            "cleaned_resources": success,
        }

    async def cleanup_by_type(self, resource_type: ResourceType) -> int:
        """Clean up what is of one type; return how many that were."""
        success, _ = await self._clean(lambda one: one.resource_type is resource_type)
        return success

    async def _clean(self, wanted: Callable[[ManagedResource], bool], *, reverse: bool = True) -> tuple[int, int]:
        """Return how many were cleaned up, and how many could not be."""
        done = [0, 0]
        async with self._turn():
            with self._lock:
                self._resources = [one for one in self._resources if one.status is not ResourceStatus.CLOSED]
                chosen = cleanup_order([one for one in self._resources if wanted(one)], reverse=reverse)
            for managed in chosen:
                if self._claim(managed):
                    done[await self._clean_one(managed)] += 1
        return done[0], done[1]

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Let one cleanup at a time work on a loop, so that the second returns when all is done."""
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(loop, asyncio.Lock())
        try:
            async with turn:
                yield
        finally:
            if not turn.locked():  # a lock that was waited for keeps its loop alive
                self._turns.pop(loop, None)

    def _claim(self, managed: ManagedResource) -> bool:
        """Whether this is whoever cleans it up: one thread alone is."""
        with self._lock:
            free = managed.status in _OPEN
            if free:
                managed.status = ResourceStatus.CLOSING
        return free

    async def _clean_one(self, managed: ManagedResource) -> bool:
        """Return whether it failed."""
        try:
            await managed.finish_cleanup()
        except Exception as error:  # noqa: BLE001  (one failure stops nothing)
            self._failed += 1
            _logger.warning("crawlo_otel_leaks: resource manager %s: %s: %r", self.name, managed.name, error)
            return True
        with self._lock:
            self._cleaned += 1
            if managed in self._resources:
                self._resources.remove(managed)
        return False

    def get_active_resources(self) -> list[ManagedResource]:
        """Return what is registered and not being cleaned up."""
        return [one for one in list(self._resources) if one.status is ResourceStatus.ACTIVE]

    def get_resources_by_type(self, resource_type: ResourceType) -> list[ManagedResource]:
        """Return what is listed of one type, in whatever state."""
        return [one for one in list(self._resources) if one.resource_type is resource_type]

    def detect_leaks(self, max_lifetime: float = 3600) -> list[ManagedResource]:
        """Return what has been held for more than `max_lifetime` seconds, and all whose cleanup failed."""
        return [
            one
            for one in list(self._resources)
            if one.status is ResourceStatus.ERROR
            or (one.status is ResourceStatus.ACTIVE and one.get_lifetime() > max_lifetime)
        ]

    def get_stats(self) -> dict[str, Any]:
        """Return the numbers so far, since the last `clear`."""
        active = self.get_active_resources()
        by_type: dict[str, int] = {}
        for one in active:
            by_type[one.resource_type.value] = by_type.get(one.resource_type.value, 0) + 1
        return {
            "total_registered": self._registered,
            "total_cleaned": self._cleaned,
            "total_errors": self._failed,
            "active_resources": len(active),
            "cleanup_errors": self._failed,
            "active_by_type": by_type,
        }

    def clear(self) -> None:
        """Forget everything, without cleaning it up."""
        with self._lock:
            forgotten, self._resources = self._resources, []
            self._registered = self._cleaned = self._failed = 0
        for managed in forgotten:
            managed.forget()

    async def __aenter__(self) -> Self:
        """Begin; everything is cleaned up at the end."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clean up everything."""
        await self.cleanup_all()


_managers: dict[str, ResourceManager] = {}


def get_resource_manager(name: str = "default") -> ResourceManager:
    """Return the process's manager of that name, made when it is first asked for."""
    return _managers.setdefault(name, ResourceManager(name))


async def cleanup_all_managers() -> dict[str, CleanupResult]:
    """Clean up every manager that `get_resource_manager` made; return what each did.

    Those are forgotten afterwards of which nothing is left.
    """
    results = {}
    for name, manager in list(_managers.items()):
        results[name] = await manager.cleanup_all()
        if not manager._resources:  # noqa: SLF001  (of this module)
            _managers.pop(name, None)
    return results

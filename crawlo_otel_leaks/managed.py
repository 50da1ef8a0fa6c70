"""A resource that a manager will clean up, and the handle that stands for it."""

from __future__ import annotations

import time
import weakref
from enum import Enum
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import cleanup, runtime, semconv
from crawlo_otel_leaks.model import Handle, NamedHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from crawlo_otel_leaks.tracker import Tracker


class ResourceType(Enum):
    """What a managed resource is."""

    DOWNLOADER = "downloader"
    REDIS_POOL = "redis_pool"
    QUEUE = "queue"
    FILTER = "filter"
    PIPELINE = "pipeline"
    MIDDLEWARE = "middleware"
    EXTENSION = "extension"
    SESSION = "session"
    BROWSER = "browser"
    OTHER = "other"


class ResourceStatus(Enum):
    """How far a managed resource has come."""

    ACTIVE = "active"
    CLOSING = "closing"
    CLOSED = "closed"
    ERROR = "error"
    """Its cleanup failed; it counts as held until one succeeds."""


class ManagedHandle(NamedHandle):
    """The handle of a managed resource; what it refers to is the manager's entry, for not all can be referred to."""

    __slots__ = ("ref",)
    ref: weakref.ref[ManagedResource]
    lasting = True

    def referent(self) -> object | None:
        """Return the resource while its manager keeps it, if it has an identity of its own."""
        managed = self.ref()
        resource = managed.resource if managed is not None else None
        return resource if type(resource).__weakrefoffset__ else None


class ManagedResource:
    """One resource, how it is cleaned up, and what became of it. `created_at` and `closed_at` are seconds since 1970.

    `timeout` is the seconds that its cleanup may take; None for as long as it likes.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (Crawlo's, and a time limit)
        self,
        resource: Any,  # noqa: ANN401  (anything can be managed)
        cleanup_func: Callable[..., object],
        resource_type: ResourceType = ResourceType.OTHER,
        name: str | None = None,
        priority: int = 0,
        depends_on: Iterable[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._arguments = len(cleanup.arguments_for(cleanup_func, resource))
        self.resource = resource
        self.cleanup_func = cleanup_func
        self.resource_type = resource_type
        self.name = name or f"{resource_type.value}_{id(resource)}"
        self.priority = priority
        self.depends_on = {depends_on} if isinstance(depends_on, str) else set(depends_on or ())
        self.timeout = timeout
        self.status = ResourceStatus.ACTIVE
        self.created_at = time.time()
        self.closed_at: float | None = None
        self.error: str | None = None
        """What its last cleanup failed with."""
        self._handle: Handle | None = None
        self._tracker: Tracker | None = None
        self._shared = False

    async def cleanup(self) -> bool:
        """Clean up, unless that is done or under way; raise what the cleanup function raises.

        Return whether it is closed.
        """
        if self.status in (ResourceStatus.CLOSED, ResourceStatus.CLOSING):
            return self.status is ResourceStatus.CLOSED
        self.status = ResourceStatus.CLOSING
        return await self.finish_cleanup()

    async def finish_cleanup(self) -> bool:
        """Clean up what is marked as closing already, by whoever has claimed it."""
        arguments = (self.resource,) if self._arguments else ()
        try:
            await cleanup.clean(self.cleanup_func, arguments, self.timeout)
        except BaseException as error:
            self.status = ResourceStatus.ERROR
            self.error = f"{type(error).__name__}: {error}"
            self._hand_back()
            raise
        self._hand_back()
        self.status, self.error = ResourceStatus.CLOSED, None
        self.closed_at = time.time()
        self._release()
        return True

    def get_lifetime(self) -> float:
        """Return the seconds from registration to cleanup, or to now."""
        return (self.closed_at or time.time()) - self.created_at

    def hold(self, frame: FrameType | None) -> None:
        """Begin to watch, as registered in `frame`: it is the manager's affair from now on, not its maker's alone."""
        running = runtime.current()
        if running is None:
            return
        known = running.find(self.resource)
        if known is not None:  # its library's handle says more, and knows its end
            self._handle, self._shared, known.shared = known, known.shared, True
            return
        handle = ManagedHandle(self._kind(), self._label())
        tracker = running.tracker
        handle.ref = weakref.ref(self, lambda _: tracker.abandon(handle))
        if tracker.acquire(handle, frame) is not None:
            handle.shared, self._handle, self._tracker = True, handle, tracker

    def _hand_back(self) -> None:
        """Let whoever acquired it answer for it again: if it is still held, nobody else is left to see to it."""
        if self._handle is not None:
            self._handle.shared = self._shared

    def forget(self) -> None:
        """Watch no longer, without a word."""
        self._hand_back()
        if self._handle is not None and self._tracker is not None:
            self._tracker.forget(self._handle)

    def _release(self) -> None:
        if self._handle is not None and self._tracker is not None:
            self._tracker.release(self._handle)

    def _kind(self) -> str:
        """A session is one; a pool, say, is not a connection."""
        return semconv.HTTP_SESSION if self.resource_type is ResourceType.SESSION else semconv.CUSTOM

    def _label(self) -> str:
        given = not self.name.startswith(f"{self.resource_type.value}_{id(self.resource)}")
        return self.name if given else type(self.resource).__qualname__

    def __repr__(self) -> str:
        return f"<ManagedResource {self.name} {self.status.value}>"

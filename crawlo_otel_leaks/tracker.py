"""Acquire, release, held: the hot path. It takes no lock, calls no foreign code and imports no SDK."""

from __future__ import annotations

import logging
import time
import weakref
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.context import _RUNTIME_CONTEXT, _SUPPRESS_INSTRUMENTATION_KEY, get_current

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.holds import Holds
from crawlo_otel_leaks.owner import current_scope, current_task, running_loop, this_span, this_thread, used_by_another
from crawlo_otel_leaks.stock import PLAIN, Stock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from opentelemetry.context import Context

    from crawlo_otel_leaks.blame import Exhaustion
    from crawlo_otel_leaks.durations import Durations
    from crawlo_otel_leaks.model import Handle, Scope
    from crawlo_otel_leaks.sites import Sites

QUEUE: Final = 20_000
"""Releases kept for the detector between two ticks; older ones are dropped and counted."""
BRIEF: Final = 0.1
"""Seconds; a hold below that is only counted, for there is nothing in it to judge or to show as a span."""
COUNTED: Final = 50_000
"""Brief holds of a kind kept for the histogram between two ticks; older ones are dropped and counted."""
_logger = logging.getLogger("crawlo_otel_leaks")
# The context variable itself, where OpenTelemetry keeps its context in one: two calls fewer for each acquisition.
_variable = getattr(_RUNTIME_CONTEXT, "_current_context", None)
CONTEXT: Final[ContextVar[Context] | None] = _variable if isinstance(_variable, ContextVar) else None
current_context: Final[Callable[[], Context]] = get_current if CONTEXT is None else CONTEXT.get


class Accelerator(NamedTuple):
    """What else is there in C where a tracker acquires and releases in C; `swift.py` says how it comes about."""

    maker: Callable[..., Any]
    """Makes what stands in front of a loop's method that makes tasks, and notes each."""
    stand: Callable[..., Any]
    """Makes what stands in front of a function, and tells what it returned."""
    files: Callable[..., Any]
    """Makes what holds files that were opened."""
    taking: Callable[..., Any]
    """Makes what records a pool's connections."""
    asking: Callable[..., Any]
    """Makes what notes aiohttp's requests, and the connector slots that they hold."""


class Tracker:
    """Who holds what. Every method may be called from any thread, from finalizers too.

    Plain dict and deque operations are atomic under the interpreter lock; that is all the
    synchronisation there is. `young` and `old` map a kind to its handles, oldest first; only the
    detector moves a handle from one to the other.
    """

    def __init__(
        self,
        sites: Sites,
        clock: Callable[[], float] = time.monotonic,
        *,
        capture_paths: bool = True,
        brief: float = BRIEF,
    ) -> None:
        self.sites = sites
        self.capture_paths = capture_paths
        self.clock = clock
        self.keep_in(PLAIN)
        self.abandoned: deque[Handle] = deque(maxlen=QUEUE)
        self.released: deque[Handle] = deque(maxlen=QUEUE)
        self.brief = brief
        self.ended_scopes: deque[Scope] = deque(maxlen=QUEUE)
        self.exhausted: deque[Exhaustion] = deque(maxlen=QUEUE)
        self.chores: list[Callable[[], None]] = []
        """What instrumentors do at each tick ..."""
        self.resets: list[Callable[[], None]] = []
        """... and what they forget in a forked child."""
        self.accelerator: Accelerator | None = None
        """What is done in C, where that is to be had."""
        self.closed = False
        self.dropped = 0
        self.ignored = 0
        self.errors = 0
        self._told: set[str] = set()

    def keep_in(self, stock: Stock) -> None:
        """Have records kept in what `stock` makes; before there are any."""
        self.stock = stock
        self.young: dict[str, dict[Handle, None]] = {kind: stock.shelf() for kind in semconv.KINDS}
        self.old: dict[str, dict[Handle, None]] = {kind: stock.shelf() for kind in semconv.KINDS}
        self.brief_holds: dict[str, Durations] = {kind: stock.durations(COUNTED) for kind in semconv.KINDS}

    def acquire(self, handle: Handle, frame: FrameType | None) -> Handle | None:
        """Start to hold `handle`, acquired in `frame`; None if it is telemetry's or the interpreter's own doing."""
        if self.locate(handle, frame) is None:
            return None
        handle.acquired_at = self.clock()
        handle.site.latest = handle
        self.young[handle.kind][handle] = None
        return handle

    def locate(self, handle: Handle, frame: FrameType | None) -> Handle | None:
        """Note where and by whom `handle` is being acquired, without holding it yet."""
        context = current_context()
        if frame is None or self.closed or (context and context.get(_SUPPRESS_INSTRUMENTATION_KEY)):
            self.ignored += 1
            return None
        handle.site, handle.stack = self.sites.at(frame, handle.kind)
        handle.process = handle.site.process
        handle.span = this_span(context) if context else None
        loop = running_loop()
        task = None if loop is None else current_task(loop)
        if task is None:
            handle.task = handle.task_name = None
        else:
            handle.task, handle.task_name = weakref.ref(task), task.get_name()
        handle.thread = this_thread.owner
        handle.scope = current_scope.get()
        return handle

    def enter(self, handle: Handle, origin: Handle) -> None:
        """Start to hold `handle`, which was located as `origin` before."""
        self.move(handle, origin)
        self.hold(handle)

    def hold(self, handle: Handle) -> None:
        """Start to hold `handle`, which was located itself before."""
        handle.acquired_at = self.clock()
        handle.site.latest = handle
        self.young[handle.kind][handle] = None

    def move(self, handle: Handle, origin: Handle) -> None:
        """Let a handle that a helper thread acquired belong to whoever asked for it."""
        handle.site, handle.stack = origin.site, origin.stack
        handle.span, handle.thread = origin.span, origin.thread
        handle.task, handle.task_name = origin.task, origin.task_name
        handle.scope, handle.process = origin.scope, origin.process

    def release(self, handle: Handle) -> None:
        """Stop holding; to be called before the wrapped release, after which another may hold the object."""
        if handle.released_at is not None:
            return
        handle.released_at = now = self.clock()
        held, kind = now - handle.acquired_at, handle.kind
        # None is what the shelves hold. Most holds end here: their handles die at once, and cost the collector nothing.
        if self.young[kind].pop(handle, self) is None and held < self.brief:
            holds = handle.site.holds
            if holds is None:
                holds = handle.site.holds = Holds()
            holds.brief += 1
            counted = self.brief_holds[kind]
            if len(counted) == COUNTED:
                self.dropped += 1
            counted.append(held)
        else:
            self._queue(handle, self.released)

    def abandon(self, handle: Handle) -> None:
        """Tell that the object was collected without a release."""
        if handle.released_at is None:
            handle.released_at = self.clock()
            self.young[handle.kind].pop(handle, None)
            self._queue(handle, self.abandoned)

    def _queue(self, handle: Handle, queue: deque[Handle]) -> None:
        self.old[handle.kind].pop(handle, None)
        if len(queue) == QUEUE:
            self.dropped += 1
        queue.append(handle)

    def forget(self, handle: Handle) -> None:
        """Stop watching without a word: it can no longer be told what becomes of it."""
        handle.released_at = self.clock()
        self.young[handle.kind].pop(handle, None)
        self.old[handle.kind].pop(handle, None)

    def use(self, handle: Handle) -> None:
        """Tell that somebody uses a handle now; after its owner, or in another trace, it is shared."""
        if handle.shared:
            return
        if current_scope.get() is not handle.scope:
            handle.process = handle.shared = True
        elif used_by_another(handle, current_context()):
            handle.shared = True

    def held(self, kinds: Iterable[str] = semconv.KINDS) -> Iterator[Handle]:
        """Yield every live handle of some kinds, from a copy of each."""
        for kind in kinds:
            yield from (*self.old[kind], *self.young[kind])

    def count(self, kind: str) -> int:
        """Return how many handles of a kind are live."""
        return len(self.young[kind]) + len(self.old[kind])

    def clear(self) -> None:
        """Forget all; for a forked child, whose handles are its parent's: dropping one is no leak of the child's."""
        for handle in self.held():
            handle.released_at = handle.acquired_at
        for shelf in (*self.young.values(), *self.old.values()):
            shelf.clear()
        self.abandoned.clear()
        self.released.clear()
        self.exhausted.clear()
        for reset in self.resets:
            reset()
        for counted in self.brief_holds.values():
            counted.clear()

    def fail(self, where: str, error: BaseException) -> None:
        """Count a failure of our own, and log it once for each place."""
        self.errors += 1
        if where not in self._told:
            self._told.add(where)
            _logger.warning("crawlo_otel_leaks: %s failed and goes on without tracking: %r", where, error)

"""What is recorded of a library's pools: somebody waits, holds, gives back, or is refused."""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any

import wrapt

from crawlo_otel_leaks.blame import explain, note, of_pool, tell
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._pool_facts import PoolFacts
from crawlo_otel_leaks.pool import Limits, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import FrameType

    from crawlo_otel_leaks.model import Handle
    from crawlo_otel_leaks.runtime import Runtime
    from crawlo_otel_leaks.stock import Ref

    Method = Callable[..., Any]
    Maker = Callable[[Method, list[bool]], Method]


class PoolBook(PoolFacts):
    """The record of one library's pools."""

    def __init__(self, running: Runtime) -> None:
        self.tracker = running.tracker
        self.patience = running.settings.pool_wait
        self.pools = running.pools
        self._handles: dict[int, ConnectionHandle] = self.tracker.stock.by_identity()
        self._refs: dict[int, Ref] = self.tracker.stock.by_identity()
        """One for each connection, however often it is taken out."""
        self._told_gone = self._gone  # one bound method for all of them
        self._swift: Any = None
        running.finders.append(self.find)

    def quicken(
        self,
        *methods: str,
        askers: Collection[str] = (),
        aside: dict[Any, Any] | None = None,
        known_by: str | None = None,
        inside: str | None = None,
        ended: Callable[..., None] | None = None,
    ) -> None:
        """Have methods done in C, where that is to be had: those that a subclass leaves as they are here, but for this.

        `askers` are the functions whose handles `new_handle` alone knows, the others' are as `handle` makes them;
        while something is in `aside`, the subclass's own methods are called; `known_by` is the attribute of a pool
        that `pool_of` goes by, and `inside` that of a connection that `enter` does, whose end `ended` is told of.
        """
        if self.tracker.accelerator is None:
            return
        made = self._swift = self.tracker.accelerator.taking(
            book=self,
            template=self.handle(self.kind),
            handle_type=ConnectionHandle,
            pool_type=Pool,
            handles=self._handles,
            refs=self._refs,
            pools=self.pools.by_identity,
            told_gone=None if inside else self._told_gone,
            askers=frozenset(askers),
            aside={} if aside is None else aside,
            known_by=known_by,
            inside=inside,
            new_handle=self.new_handle,
            begin_above=self.begin_above,
            pool_of=self.pool_of,
            got=self.got,
            waited=self.waited,
            gave_back=self.gave_back,
            let_go=self.let_go,
            ended=ended,
            use=functools.partial(self.safely, "use", self.tracker.use),
            failed=self.failed,
        )
        for name in methods:
            setattr(self, name, getattr(made, name))

    def way(self, role: str, python: Maker, detail: object = None) -> Maker:
        """Return what makes the stand for a method that every take goes through: in C, where that is to be had.

        `role` is take, give_back or end, whose `detail` is the attribute that has the connection, use, ask, or wait or
        hold, whose `detail` is the ContextVar that they share.
        """
        made = self._swift
        return python if made is None else lambda own, live: made.stand(role, own, live, python(own, live), detail)

    def find(self, thing: object) -> Handle | None:
        """Return the handle of a connection, or of a proxy that another instrumentation put before it."""
        while isinstance(thing, wrapt.BaseObjectProxy):
            thing = thing.__wrapped__
        handle = self._handles.get(id(thing))
        return handle if handle is not None and handle.referent() is thing else None

    def pool_of(self, thing: Any) -> Pool:
        """Return the tracker's pool for the library's."""
        return self.pools.of(thing, self._make)

    def begin(self, thing: Any, frame: FrameType) -> ConnectionHandle | None:
        """Begin to wait for a connection; None if it is telemetry that asks. Raise nothing, as all that follows."""
        return self.wait_for(thing, self.ask(frame))

    def begin_above(self, thing: Any) -> ConnectionHandle | None:
        """Begin to wait, for whoever called the function that calls this."""
        return self.begin(thing, sys._getframe(2))  # noqa: SLF001  (documented; the underscore is its name)

    def ask(self, frame: FrameType) -> ConnectionHandle | None:
        """Note who is asking; None if it is telemetry."""
        try:
            handle = self.new_handle(frame)
            return None if self.tracker.locate(handle, frame) is None else handle
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self.failed("ask", error)
            return None

    def wait_for(self, thing: Any, handle: ConnectionHandle | None) -> ConnectionHandle | None:
        """Begin to wait, with a handle that was located before; until it is held, it says since when."""
        if handle is not None:
            try:
                handle.acquired_at = self.tracker.clock()
                handle.pool = pool = self.pool_of(thing)
                pool.waiting[handle] = None
            except Exception as error:  # noqa: BLE001  (as above)
                self.failed("wait", error)
                return None
        return handle

    def got(self, handle: ConnectionHandle | None, connection: Any) -> None:
        """Hold what was waited for."""
        if handle is None:
            return
        try:
            pool, since = handle.pool, handle.acquired_at
            pool.waiting.pop(handle, None)
            self.enter(pool, connection, handle)
            pool.waits.append(handle.acquired_at - since)
        except Exception as error:  # noqa: BLE001  (as above)
            self.failed("acquire", error)

    def waited(self, thing: Any, handle: ConnectionHandle | None, error: BaseException | None) -> None:
        """Wait no more; if it was in vain, tell who holds what."""
        if handle is not None and handle in handle.pool.waiting:
            if error is not None:
                self.safely("blame", self._refused, thing, handle, error)
            handle.pool.waiting.pop(handle, None)

    def _refused(self, thing: Any, handle: ConnectionHandle, error: BaseException) -> None:
        pool, now = handle.pool, self.tracker.clock()
        cut_off = isinstance(error, asyncio.CancelledError) and now - handle.acquired_at >= self.patience
        if not cut_off and not self.refused(thing, error):
            explain(self.tracker, error)
            return
        pool.timeouts += 1
        found = of_pool(pool, self.holding(pool), handle, now)
        if note(error, found) and handle not in pool.told:
            tell(self.tracker, found, handle.span)

    def enter(self, pool: Pool, connection: Any, handle: ConnectionHandle) -> None:
        """Hold a connection that somebody got, by the handle that was located when it was asked for."""
        handle.pool = pool
        key = id(connection)
        ref = self._refs.get(key)
        if ref is None or ref() is not connection:
            ref = self._refs[key] = self.tracker.stock.ref(connection, self._told_gone)
            ref.key = key
        handle.connection = ref
        self.tracker.hold(handle)
        self._handles[ref.key] = handle  # not `key`, which would be one more number in memory
        pool.held[handle] = None

    def gave_back(self, connection: object) -> None:
        """Record a release; before the wrapped one, after which another may hold the connection."""
        handle = self._handles.pop(id(connection), None)
        if handle is not None:
            self._end(handle)

    def let_go(self, connection: object) -> ConnectionHandle | None:
        """Return the handle of what is being given back, which ends once the pool has it."""
        return self._handles.pop(id(connection), None)

    def kept(self, pool: Any, connection: object, handle: ConnectionHandle | None) -> bool:
        """Hold on to what a release that did not come through has left out."""
        if handle is None or not self.out(pool, connection):
            return False
        self._handles[id(connection)] = handle
        return True

    def dropped(self, connection: object) -> None:
        """Record that a connection is being collected which nobody gave back."""
        handle = self._handles.pop(id(connection), None)
        if handle is not None:
            handle.pool.held.pop(handle, None)
            self.tracker.abandon(handle)

    def _end(self, handle: ConnectionHandle) -> None:
        handle.pool.held.pop(handle, None)
        handle.connection = None  # nobody is to be told of its end
        self.tracker.release(handle)
        handle.pool.uses.append(handle.held)

    def holding(self, pool: Pool) -> Sequence[Handle]:
        """Return what is out of a pool."""
        return list(pool.held)

    def safely(self, where: str, step: Callable[..., None], *args: Any) -> None:
        """The host has what it asked for; that we cannot watch it is our failure alone."""
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is ours)
            self.failed(where, error)

    def failed(self, where: str, error: Exception) -> None:
        """Count and tell a failure of ours."""
        self.tracker.fail(f"{type(self).__name__} {where}", error)

    def _created(self, thing: Any, began: float) -> None:
        self.pool_of(thing).creations.append(self.tracker.clock() - began)

    def _terminated(self, thing: Any) -> None:
        for handle in list(self.pool_of(thing).held):
            self.gave_back(handle.referent())

    def _gone(self, ref: Ref) -> None:
        key = ref.key
        if self._refs.get(key) is ref:
            del self._refs[key]
        handle = self._handles.get(key)
        if handle is not None and handle.connection is ref:
            self._collected(key, handle)

    def _collected(self, key: int, handle: ConnectionHandle) -> None:
        if self._handles.get(key) is handle:
            del self._handles[key]
        # Its pool stays charged: it remains among those that a waiter is told.
        self.tracker.abandon(handle)

    def _make(self, thing: Any) -> Pool:
        ref = weakref.ref(thing)

        def read() -> Limits | None:
            alive = ref()
            pool.silent = self.silent()  # what emits may have been switched on since
            return None if alive is None else self.limits(alive)

        pool = self.new_pool(thing, read)
        return pool

    def new_pool(self, thing: Any, read: Callable[[], Limits | None]) -> Pool:
        """Return what is to stand for a pool of the library's, whose sizes `read` returns."""
        return self.pool_named(self.name(thing), read, self.silent())

    def pool_named(
        self,
        name: str,
        read: Callable[[], Limits | None],
        silent: frozenset[str] = frozenset(),
    ) -> Pool:
        """Return the same by what it is called; its handles ask this record."""
        pool = Pool(self.kind, name, read, self.tracker.stock, silent)
        pool.watch = self
        return pool

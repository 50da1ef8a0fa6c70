"""Parts of the hot paths, each alone, to see where the instructions go."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Final

from dummypool import Connection, Pool, Watch
from hotpath import HotPath, nothing, repeat

from crawlo_otel_leaks import runtime, semconv
from crawlo_otel_leaks.instrumentation._connection_handle import ConnectionHandle
from crawlo_otel_leaks.instrumentation._wrapping import Point, Stand
from crawlo_otel_leaks.model import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlo_otel_leaks.tracker import Tracker

_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)


def acquired(tracker: Tracker) -> HotPath:
    """Make a handle, acquire and release it."""

    def step() -> None:
        handle = Handle(semconv.DB_CONNECTION)
        tracker.acquire(handle, _getframe())
        tracker.release(handle)

    return HotPath(repeat(nothing), repeat(step))


def wrapped(tracker: Tracker) -> HotPath:
    """Go through wrapt to a wrapper that only calls on."""
    del tracker

    class Plain:
        def method(self) -> None:
            pass

    class Wrapped(Plain):
        method = Stand(
            Plain.method,
            Point(__name__, "method", lambda method, _, args, kwargs: method(*args, **kwargs)),
            [True],
        )

    plain, stood = Plain(), Wrapped()
    return HotPath(repeat(lambda: plain.method()), repeat(lambda: stood.method()))  # noqa: PLW0108  (looked up each time)


def handles(tracker: Tracker) -> HotPath:
    """Make a handle."""
    del tracker
    return HotPath(repeat(nothing), repeat(lambda: Handle(semconv.DB_CONNECTION)))


def sites(tracker: Tracker) -> HotPath:
    """Find the site of a stack."""
    at = tracker.sites.at
    return HotPath(repeat(nothing), repeat(lambda: at(_getframe())))


def located(tracker: Tracker) -> HotPath:
    """Make a handle and locate it."""
    return HotPath(
        repeat(nothing),
        repeat(lambda: tracker.locate(Handle(semconv.DB_CONNECTION), _getframe())),
    )


def referred(tracker: Tracker) -> HotPath:
    """Make a weak reference with a closure to call back."""
    del tracker
    one = Connection()

    def step() -> None:
        weakref.ref(one, lambda _: one)

    return HotPath(repeat(nothing), repeat(step))


def waiting(tracker: Tracker) -> HotPath:
    """Ask a pool for a connection and do not get it, without a wrapper; locating a handle is in it."""
    del tracker
    one, watch = Pool(), Watch(_running())

    def step() -> None:
        watch.waited(one, watch.begin(one, _getframe()), None)

    return HotPath(repeat(nothing), repeat(step))


def entered(tracker: Tracker) -> HotPath:
    """Hold a connection that somebody got and take it back, without a wrapper; making a handle is in it."""
    one, watch = Pool(), Watch(_running())
    located = tracker.locate(ConnectionHandle(semconv.DB_CONNECTION), _getframe())
    connection, known = one.take(), watch.pool_of(one)
    assert located is not None

    def step() -> None:
        handle = ConnectionHandle(semconv.DB_CONNECTION)
        tracker.move(handle, located)
        watch.enter(known, connection, handle)
        watch.gave_back(connection)

    return HotPath(repeat(nothing), repeat(step))


def _running() -> runtime.Runtime:
    running = runtime.current()
    assert running is not None
    return running


PARTS: Final[dict[str, Callable[[Tracker], HotPath]]] = {
    "part: through wrapt": wrapped,
    "part: new handle": handles,
    "part: sites.at": sites,
    "part: new handle + tracker.locate": located,
    "part: pool waiting": waiting,
    "part: pool enter + gave_back": entered,
    "part: weak reference with a closure": referred,
}

"""What `PoolWatch` does, as functions that stand in a pool's class themselves: for pools asked at every turn."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._pools import given

if TYPE_CHECKING:
    from crawlo_otel_leaks.instrumentation._pool_book import Maker, Method
    from crawlo_otel_leaks.instrumentation._pools import PoolWatch

# Through wrapt, its own way took a quarter of a take and give back. The calls that clients make pass nothing on by `*`
# and `**`, which was a sixth of what is ours in a take and give back on asyncio (1 500 of 8 800 instructions).
_getframe = sys._getframe  # noqa: SLF001  (documented; the underscore is its name)


def acquiring(watch: PoolWatch) -> Maker:
    """Return what makes a stand for a method that returns a connection."""
    begin, got, waited = watch.begin, watch.got, watch.waited

    def stand_for(original: Method, live: list[bool]) -> Method:
        def acquire(pool: Any, *args: Any, **kwargs: Any) -> Any:
            if not live:
                return original(pool, *args, **kwargs)
            handle = begin(pool, _getframe(1))
            try:
                connection = original(pool, *args, **kwargs) if args or kwargs else original(pool)
            except BaseException as error:
                waited(pool, handle, error)
                raise
            got(handle, connection)
            return connection

        return acquire

    return watch.way("take", stand_for)


def acquiring_async(watch: PoolWatch) -> Maker:
    """Return what makes a stand for a coroutine function that returns a connection."""
    begin, got, waited = watch.begin_above, watch.got, watch.waited

    def stand_for(original: Method, live: list[bool]) -> Method:
        async def acquire(pool: Any, *args: Any, **kwargs: Any) -> Any:
            if not live:
                return await original(pool, *args, **kwargs)
            handle = begin(pool)
            try:
                connection = await (original(pool, *args, **kwargs) if args or kwargs else original(pool))
            except BaseException as error:
                waited(pool, handle, error)
                raise
            got(handle, connection)
            return connection

        return acquire

    return stand_for


def releasing(watch: PoolWatch) -> Maker:
    """Return what makes a stand for a method that takes a connection back."""
    gave_back = watch.gave_back

    def stand_for(original: Method, live: list[bool]) -> Method:
        def release(pool: Any, *args: Any, **kwargs: Any) -> Any:
            if live:
                gave_back(given(args, kwargs))
            return original(pool, args[0]) if len(args) == 1 and not kwargs else original(pool, *args, **kwargs)

        return release

    return watch.way("give_back", stand_for)


def releasing_async(watch: PoolWatch) -> Maker:
    """Return what makes a stand for a coroutine function that takes a connection back."""
    let_go, kept, end = watch.let_go, watch.kept, watch._end  # noqa: SLF001  (as its own release_async)

    def stand_for(original: Method, live: list[bool]) -> Method:
        async def release(pool: Any, *args: Any, **kwargs: Any) -> Any:
            if not live:
                return await original(pool, *args, **kwargs)
            is_plain = len(args) == 1 and not kwargs
            connection = args[0] if is_plain else given(args, kwargs)
            handle = let_go(connection)
            try:
                return await (original(pool, connection) if is_plain else original(pool, *args, **kwargs))
            except BaseException:
                if kept(pool, connection, handle):
                    handle = None
                raise
            finally:
                if handle is not None:
                    end(handle)

        return release

    return stand_for

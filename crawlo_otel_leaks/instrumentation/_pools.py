"""What stands in front of the methods that all connection pools have in common."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks.instrumentation._pool_book import PoolBook

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]


class PoolWatch(PoolBook):
    """The wrappers for one library's pools."""

    def acquire(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that returns a connection."""
        handle = self.begin(pool, sys._getframe(1))  # noqa: SLF001
        try:
            connection = wrapped(*args, **kwargs)
        except BaseException as error:
            self.waited(pool, handle, error)
            raise
        self.got(handle, connection)
        return connection

    async def acquire_async(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a coroutine that returns a connection."""
        handle = self.begin(pool, sys._getframe(1))  # noqa: SLF001
        try:
            connection = await wrapped(*args, **kwargs)
        except BaseException as error:
            self.waited(pool, handle, error)
            raise
        self.got(handle, connection)
        return connection

    def release(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a method that takes a connection back."""
        del pool
        self.gave_back(given(args, kwargs))
        return wrapped(*args, **kwargs)

    async def release_async(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a coroutine that takes a connection back; cancelled, it may leave it out."""
        connection = given(args, kwargs)
        handle = self.let_go(connection)
        try:
            return await wrapped(*args, **kwargs)
        except BaseException:
            if self.kept(pool, connection, handle):
                handle = None
            raise
        finally:
            if handle is not None:
                self._end(handle)

    def create(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's method that opens one more connection."""
        began = self.tracker.clock()
        connection = wrapped(*args, **kwargs)
        self.safely("create", self._created, pool, began)
        return connection

    async def create_async(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's coroutine that opens one more connection."""
        began = self.tracker.clock()
        connection = await wrapped(*args, **kwargs)
        self.safely("create", self._created, pool, began)
        return connection

    def terminate(self, wrapped: Wrapped, pool: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Stand in front of a pool's method that closes what is out, too."""
        self.safely("terminate", self._terminated, pool)
        return wrapped(*args, **kwargs)


def given(args: Arguments, kwargs: Keywords) -> object:
    """Return the connection that a method is called with, whatever its parameter is called."""
    return args[0] if args else next(iter(kwargs.values()), None)

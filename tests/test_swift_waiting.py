"""What is asked for in one call, waited for in another and there in a third, in C and in Python, as asyncpg does it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from types import SimpleNamespace

import pytest
from conftest import needs_accelerator
from lending_steps import Parts
from opentelemetry.instrumentation.utils import suppress_instrumentation
from swift_steps import forget_times, left_behind, line_of

from crawlo_otel_leaks import swift
from crawlo_otel_leaks.instrumentation import asyncpg as ours
from crawlo_otel_leaks.pool import Pools
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.tracker import Tracker

needs_accelerator()


class Protocol:
    connected = True

    def is_connected(self):
        return self.connected


class Connection:
    _aborted = False

    def __init__(self):
        self._protocol = Protocol()

    def is_closed(self):
        return self._aborted or not self._protocol.is_connected()


class Proxy:
    def __init__(self, holder, con):
        self._con = con
        con._proxy = self


class Holder:
    _generation = 0

    def __init__(self, pool):
        self._con, self._pool = Connection(), pool


class Coming:
    """What is awaited, in as many ways as the library's own."""

    def __init__(self, pool, *timeout):
        self.pool, self.timeout = pool, timeout

    async def __aenter__(self):
        self.lent = await self.pool._acquire(*self.timeout)
        return self.lent

    async def __aexit__(self, *error):
        self.pool.release(self.lent)

    def __await__(self):
        coroutine = self.pool._acquire(*self.timeout)
        self.awaited = coroutine.__qualname__
        return coroutine.__await__()


class Pool:
    """Lends the one connection that it has, as a real one does."""

    _connect_args = ("postgres://me:secret@db:5433/shop",)
    _connect_kwargs = {}  # noqa: RUF012  (as the library's own)
    _generation = 0

    def __init__(self):
        self._queue = asyncio.LifoQueue(1)
        self._queue.put_nowait(Holder(self))
        self.closing = False

    def get_min_size(self):
        return 0

    def acquire(self, *timeout):
        return Coming(self, *timeout)

    async def _acquire(self, timeout=None):
        if self.closing:
            raise LookupError("closing")
        holder = await self._queue.get()
        if hasattr(holder, "renewed"):
            await holder.renewed()
        return Proxy(holder, holder._con)

    def release(self, proxy):
        holder = Holder(self)
        holder._con = proxy._con
        self._queue.put_nowait(holder)


class WaitingParts(Parts):
    def waiting(self):
        return [handle for known in self.watch.pools for handle in known.waiting]


@pytest.fixture(params=["in C", "in Python"])
def parts(monkeypatch, request):
    tracker, live = Tracker(Sites()), [True]
    assert request.param == "in Python" or swift.accelerate(tracker)
    watch = ours.AsyncpgPools(
        SimpleNamespace(tracker=tracker, settings=Settings(), pools=Pools(tracker.stock), finders=[])
    )
    asked = ours._asked
    for kind, name, way in (
        (Pool, "acquire", watch.way("ask", watch.call)),
        (Pool, "_acquire", watch.way("wait", watch.wait, asked)),
        (Proxy, "__init__", watch.way("hold", watch.hold, asked)),
    ):
        monkeypatch.setattr(kind, name, way(vars(kind)[name], live))
    asked.set((None,))
    return WaitingParts(tracker=tracker, watch=watch, live=live, asked=asked)


async def there_and_back(parts, pool):
    proxy = await pool.acquire()
    parts.watch.gave_back(proxy._con)
    pool.release(proxy)


def test_what_is_at_hand_is_held_by_who_asked_and_nobody_waits(parts):
    async def main():
        pool = Pool()
        coming = pool.acquire()  # here
        line = inspect.currentframe().f_lineno - 1
        assert parts.waiting() == []
        proxy = await coming
        assert coming.awaited == "Pool._acquire"
        (handle,) = parts.held()
        assert line_of(handle) == line
        assert (handle.name, handle.referent()) == ("db:5433/shop", proxy)
        assert list(parts.asked.get()) == [None]
        parts.watch.gave_back(proxy._con)
        assert parts.held() == []
        (known,) = parts.watch.pools
        assert (len(known.waits), len(known.uses)) == (1, 1)

    asyncio.run(main())
    assert parts.tracker.errors == 0


def test_who_has_to_wait_is_among_those_who_do(parts):
    async def main():
        pool = Pool()
        holder = pool._queue.get_nowait()
        task = asyncio.ensure_future(pool.acquire())
        await asyncio.sleep(0)
        assert len(parts.waiting()) == 1
        pool._queue.put_nowait(holder)
        await task
        assert parts.waiting() == []
        assert len(parts.held()) == 1

    asyncio.run(main())
    assert parts.tracker.errors == 0


def cut(holder):
    holder._con._protocol.connected = False


def abort(holder):
    holder._con._aborted = True


def expire(holder):
    holder._pool._generation += 1


def unmake(holder):
    del holder._con._protocol  # another release of the library


@pytest.mark.parametrize("outdate", [cut, abort, expire, unmake])
def test_who_gets_what_is_not_ready_waits_until_it_is(parts, outdate):
    class Slow(Holder):
        async def renewed(self):
            await asyncio.sleep(0)
            self._con = Connection()
            return self

    async def use(pool):
        return await pool.acquire()

    async def main():
        pool = Pool()
        pool._queue.get_nowait()
        pool._queue.put_nowait(Slow(pool))
        outdate(pool._queue._queue[-1])
        task = asyncio.create_task(use(pool))
        await asyncio.sleep(0)
        waits = len(parts.waiting())
        await task
        assert (waits, parts.waiting(), len(parts.held())) == (1, [], 1)

    asyncio.run(main())
    assert parts.tracker.errors == (outdate is unmake)


@pytest.mark.parametrize("timeout", [(), (None,), (3,), (3.0,), (0,), (-1,), ("soon",)])
def test_a_time_to_wait_changes_nothing(parts, timeout):
    async def main():
        pool = Pool()
        async with pool.acquire(*timeout) as lent:
            assert [handle.referent() for handle in parts.held()] == [lent]
            parts.watch.gave_back(lent._con)

    asyncio.run(main())
    assert (parts.held(), parts.waiting(), parts.tracker.errors) == ([], [], 0)


@pytest.mark.parametrize(("ticks", "found"), [(0, True), (1, True), (2, False)])
def test_what_is_awaited_long_after_it_was_asked_for_counts_from_there(parts, ticks, found):
    async def main():
        pool = Pool()
        await there_and_back(parts, pool)
        coming = pool.acquire()  # here
        line = inspect.currentframe().f_lineno - 1
        for _ in range(ticks):
            for chore in parts.tracker.chores:
                chore()
        await coming
        (handle,) = parts.held()
        assert (line_of(handle) == line) == (found or parts.watch._swift is None)

    asyncio.run(main())
    assert parts.tracker.errors == 0


@pytest.mark.parametrize("parts", ["in C"], indirect=True)  # in Python, one variable has the last one's alone
def test_several_may_be_asked_for_before_the_first_is_awaited(parts):
    async def main():
        pools = [Pool() for _ in range(20)]
        coming = [pool.acquire() for pool in pools]  # here
        line = inspect.currentframe().f_lineno - 1
        lent = [await one for one in reversed(coming)]
        assert {line_of(handle) for handle in parts.held()} == {line}
        assert len(parts.held()) == len(lent) == len(pools)

    asyncio.run(main())
    assert parts.tracker.errors == 0


def test_what_another_task_awaits_goes_the_long_way(parts):
    class Later:
        def __init__(self, pool):
            self.pool = pool

        def __await__(self):
            return self.pool._acquire().__await__()

    async def use(later):
        await later

    async def main():
        pool = Pool()
        await there_and_back(parts, pool)
        pool.acquire()
        later = Later(pool)
        await asyncio.create_task(use(later))
        (handle,) = parts.held()
        assert handle.site.frames[0][0] is use.__code__

    asyncio.run(main())
    assert parts.tracker.errors == 0


def test_what_a_pool_makes_for_itself_is_nobodys(parts):
    async def main():
        pool = Pool()
        holder = Holder(pool)
        assert Proxy(holder, holder._con)._con is holder._con
        assert Proxy(holder=holder, con=holder._con)._con is holder._con
        await there_and_back(parts, pool)
        assert Proxy(holder, holder._con)._con is holder._con
        with suppress_instrumentation():
            await pool.acquire()

    asyncio.run(main())
    assert (parts.held(), parts.waiting(), parts.tracker.errors) == ([], [], 0)


def test_an_error_of_the_library_is_its_own(parts):
    async def main():
        pool = Pool()
        pool.closing = True
        for _ in range(2):
            with pytest.raises(LookupError, match="closing"):
                await pool.acquire()
            pool._queue.get_nowait()  # and once more where a connection would have to be opened
            pool._queue.put_nowait(SimpleNamespace(_con=None))
        with pytest.raises(TypeError, match="con"):
            Proxy(None)

    asyncio.run(main())
    assert (parts.held(), parts.waiting(), parts.tracker.errors) == ([], [], 0)


def test_once_it_is_switched_off_all_goes_straight_through(parts):
    async def main():
        parts.live.clear()
        await Pool().acquire()

    asyncio.run(main())
    assert (parts.held(), list(parts.watch.pools)) == ([], [])


def test_a_failure_of_ours_is_told_and_the_host_has_its_connection(parts):
    parts.tracker.clock = lambda: 1 / 0

    async def main():
        assert isinstance(await Pool().acquire(), Proxy)

    asyncio.run(main())
    assert (parts.held(), parts.tracker.errors > 0) == ([], True)


def test_what_ends_the_program_goes_through(parts):
    def interrupted():
        raise KeyboardInterrupt

    async def main():
        pool = Pool()
        parts.tracker.clock = interrupted
        with pytest.raises(KeyboardInterrupt):
            await pool.acquire()

    asyncio.run(main())
    assert parts.tracker.errors == 0


def test_it_leaves_nothing_behind(parts):
    loop, pool = asyncio.new_event_loop(), Pool()
    loop.run_until_complete(there_and_back(parts, pool))
    turn = functools.partial(there_and_back, parts, pool)
    assert left_behind(lambda: loop.run_until_complete(turn()), lambda: forget_times(parts.watch)) < 100
    loop.close()


@pytest.mark.parametrize(("role", "detail"), [("wait", None), ("hold", "asked")])
def test_it_needs_a_variable(parts, role, detail):
    if parts.watch._swift is None:
        parts.watch.way(role, parts.watch.wait, detail)(Pool._acquire, [True])  # it has its own
        return
    with pytest.raises(ValueError, match=role):
        parts.watch.way(role, parts.watch.wait, detail)(Pool._acquire, [True])

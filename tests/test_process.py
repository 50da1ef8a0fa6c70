"""One look at the process, against what it is known to hold."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from garbage import collect

from crawlo_otel_leaks import peers, process


@contextlib.contextmanager
def descriptor(number):
    try:
        yield number
    finally:
        os.close(number)


def open_one(kind, where, stack):
    """Open one descriptor of a kind, or a pair."""
    if kind == "file":
        stack.enter_context((where / "one.txt").open("w"))
    elif kind == "directory":
        stack.enter_context(descriptor(os.open(where, os.O_RDONLY)))
    elif kind == "device":
        stack.enter_context(descriptor(os.open(os.devnull, os.O_RDONLY)))
    elif kind == "eventpoll":
        stack.enter_context(select.epoll())
    elif kind == "eventfd":
        stack.enter_context(descriptor(os.eventfd(0)))
    elif kind == "pidfd":
        stack.enter_context(descriptor(os.pidfd_open(os.getpid())))
    elif kind == "pipe":
        for number in os.pipe():
            stack.enter_context(descriptor(number))
    else:
        for one in socket.socketpair():
            stack.enter_context(one)


def listed():
    """How many the kernel lists, less the one that lists them."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1


def by_type():
    return process.take().fds_by_type


# Descriptors.


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("file", 1),
        ("directory", 1),
        ("device", 1),
        ("eventpoll", 1),
        ("eventfd", 1),
        ("pidfd", 1),
        ("pipe", 2),
        ("socket", 2),
    ],
)
def test_each_type_of_descriptor_is_told_apart(tmp_path, kind, count):
    before = by_type()
    with contextlib.ExitStack() as stack:
        open_one(kind, tmp_path, stack)
        assert {**before, kind: before.get(kind, 0) + count} == by_type()
    assert by_type() == before


def test_a_snapshot_counts_none_of_its_own_descriptors_and_leaves_none():
    count = listed()
    for _ in range(3):
        seen = process.take(uss=True, sockets=True)
        assert seen.fds == sum(seen.fds_by_type.values()) == count


def test_two_descriptors_are_equal_if_they_refer_to_the_same(tmp_path):
    with (tmp_path / "a").open("w") as one, (tmp_path / "b").open("w") as other:
        copy = os.dup(one.fileno())
        held = process.descriptors()
        os.close(copy)
        assert held[copy] == held[one.fileno()] != held[other.fileno()]


def test_what_there_is_no_time_to_look_at_is_unclassified(monkeypatch):
    times = iter([0.0] * 10_000)
    monkeypatch.setattr(process, "_numbers", lambda _: [0, 1, 2])
    monkeypatch.setattr(process.time, "monotonic", lambda: next(times, 0.0))
    assert process.UNCLASSIFIED not in {one.type for one in process.descriptors(1.0).values()}
    times = iter([0.0, 0.5, 2.0, 3.0])
    assert [one.type == process.UNCLASSIFIED for one in process.descriptors(1.0).values()] == [False, True, True]


def test_where_there_is_no_time_even_to_list_them_they_are_only_counted(monkeypatch):
    assert process.descriptors(-1.0) is None
    monkeypatch.setattr(process, "descriptors", lambda: None)
    seen = process.take()
    assert seen.fds_by_type is None
    # The kernel counts the number that a thread waiting in `accept` has reserved, and lists it not.
    assert listed() <= seen.fds <= listed() + threading.active_count()


def test_a_descriptor_that_is_closed_while_we_look_is_passed_over(monkeypatch):
    monkeypatch.setattr(process, "_numbers", lambda _: [0, 9999])
    assert list(process.descriptors()) == [0]


def test_before_linux_6_2_they_are_counted_by_listing(monkeypatch):
    sized = SimpleNamespace(stat=lambda _: SimpleNamespace(st_size=0), listdir=os.listdir)
    monkeypatch.setattr(process, "os", sized)
    assert process._count() == listed()


def test_without_proc_nothing_is_listed_or_counted(monkeypatch):
    monkeypatch.setattr(process, "_DESCRIPTORS", "/proc/self/no-such")
    assert process.descriptors() is None
    assert process._count() is None
    assert process.take().fds is None


# Memory, threads, collector.


def test_memory_and_threads_are_what_psutil_says():
    seen, known = process.take(uss=True), psutil.Process()
    assert seen.rss == pytest.approx(known.memory_info().rss, rel=0.05)
    assert seen.uss == pytest.approx(known.memory_full_info().uss, rel=0.05)
    assert seen.threads == known.num_threads()
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    assert process.take().threads == seen.threads + 1
    go.set()
    thread.join()


def test_what_was_not_asked_for_is_not_known():
    seen = process.take()
    assert (seen.uss, seen.sockets, seen.types) == (None, None, None)
    assert abs(seen.at - time.monotonic()) < 5
    assert abs(seen.wall - time.time()) < 5
    assert (len(seen.gc_counts), len(seen.gc_collections)) == (3, 3)


def test_collections_are_counted():
    gc.disable()
    try:
        collect()  # no other thread's is under way from here on
        before = process.take().gc_collections
        gc.collect()
        assert process.take().gc_collections[2] == before[2] + 1
    finally:
        gc.enable()


def test_elsewhere_psutil_tells_what_it_can(monkeypatch):
    with socket.socket():
        monkeypatch.setattr(process, "LINUX", False)
        seen = process.take(uss=True, sockets=True)
    known = psutil.Process()
    assert (seen.fds_by_type, seen.sockets) == (None, None)
    assert seen.fds == known.num_fds() + 1
    assert seen.rss == pytest.approx(known.memory_info().rss, rel=0.05)
    assert seen.threads == known.num_threads()


def test_what_psutil_cannot_tell_is_none(monkeypatch):
    monkeypatch.setattr(process, "LINUX", False)
    monkeypatch.setattr(peers, "read", lambda _: b"")
    for name in ("num_fds", "memory_info", "num_threads", "memory_full_info"):
        monkeypatch.delattr(psutil.Process, name)
    seen = process.take(uss=True)
    assert (seen.rss, seen.uss, seen.fds, seen.threads) == (None, None, None, None)


def test_the_kernels_sum_of_private_memory_is_psutils_where_there_is_none(monkeypatch):
    monkeypatch.setattr(peers, "read", lambda _: b"")
    assert process._uss() == pytest.approx(psutil.Process().memory_full_info().uss, rel=0.05)
    assert process._status() == (None, None)


# asyncio.


def test_tasks_that_are_alive_are_counted():
    collect()
    before = process.tasks()  # other tests' that are still referred to

    async def main():
        others = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
        await asyncio.sleep(0)
        count = process.take().tasks
        for one in others:
            one.cancel()
        return count

    assert asyncio.run(main()) == before + 6


def test_what_an_event_loop_is_made_of_is_known_while_it_has_tasks():
    async def main():
        return process.loop_descriptors()

    before = set(process.descriptors())
    own = asyncio.run(main())
    assert len(own) == 3
    assert own.isdisjoint(before)
    assert own.isdisjoint(process.loop_descriptors())


def test_loops_of_another_make_and_closed_ones_have_none_that_can_be_seen():
    class Strange:
        def get_loop(self):
            return object()

    strange = Strange()
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    loop.close()
    asyncio.tasks._register_task(strange)
    try:
        assert process.loop_descriptors() == set()
    finally:
        asyncio.tasks._unregister_task(strange)


def test_a_snapshot_asks_the_kernel_once_for_each_descriptor(monkeypatch):
    """What that takes is in benchmarks/process.py."""
    looked, named = [], []
    monkeypatch.setattr(os, "fstat", lambda number, real=os.fstat: (looked.append(number), real(number))[1])
    monkeypatch.setattr(os, "readlink", lambda path, real=os.readlink: (named.append(path), real(path))[1])
    pairs = [socket.socketpair() for _ in range(400)]
    fds = process.take().fds
    for one in (one for pair in pairs for one in pair):
        one.close()
    assert fds > 800
    assert len(looked) == len(set(looked)) == fds + 1  # and of the one that listing took, closed by then
    assert len(named) == len(set(named)) < fds - 800

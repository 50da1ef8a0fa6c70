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
import weakref
from pathlib import Path

import psutil
import pytest

from crawlo_otel_leaks import peers, process
from crawlo_otel_leaks.peers import Peer


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
        assert seen.fds == sum(seen.fds_by_type.values()) == process._count() == count


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
    assert seen.fds == listed()


def test_a_descriptor_that_is_closed_while_we_look_is_passed_over(monkeypatch):
    monkeypatch.setattr(process, "_numbers", lambda _: [0, 9999])
    assert list(process.descriptors()) == [0]


def test_without_proc_nothing_is_listed_or_counted(monkeypatch):
    monkeypatch.setattr(process, "_DESCRIPTORS", "/proc/self/no-such")
    assert process.descriptors() is None
    assert process._count() is None
    assert process.take().fds is None


# Sockets.


def sockets():
    return process.take(sockets=True).sockets


def test_tcp_sockets_are_grouped_by_state_and_peer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pairs = [(socket.create_connection(("127.0.0.1", port)), server.accept()[0]) for _ in range(3)]
        found = sockets()
        assert found[Peer("tcp", "established", f"127.0.0.1:{port}")] == 3
        assert found[Peer("tcp", "listen", "")] >= 1
        pairs[0][1].close()
        assert sockets()[Peer("tcp", "close_wait", f"127.0.0.1:{port}")] == 1
        for pair in pairs:
            for one in pair:
                one.close()
    assert Peer("tcp", "established", f"127.0.0.1:{port}") not in sockets()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_peers_are_written_as_in_urls():
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 address here")
    port = server.getsockname()[1]
    with server, socket.create_connection(("::1", port)):
        assert sockets()[Peer("tcp", "established", f"[::1]:{port}")] == 1


def test_udp_and_unix_sockets_and_those_in_no_table(tmp_path):
    before = sockets()
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.connect(("127.0.0.1", 9))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        for one in socket.socketpair():
            stack.enter_context(one)
        stack.enter_context(socket.socket())  # neither bound nor connected
        new = {peer: count - before.get(peer, 0) for peer, count in sockets().items()}
    assert {peer: count for peer, count in new.items() if count} == {
        Peer("udp", "established", "127.0.0.1:9"): 1,
        Peer("unix", "listen", ""): 1,
        Peer("unix", "connected", ""): 2,
        Peer("other", "unlisted", ""): 1,
    }


def test_groups_of_sockets_are_bounded(monkeypatch):
    listed = [(number, Peer("tcp", "established", f"10.0.0.1:{number}")) for number in range(1, 151)]
    monkeypatch.setattr(peers, "_listed", lambda: iter(listed))
    found = peers.by_peer(dict.fromkeys(range(1, 151), 2))
    assert len(found) == peers.PEERS + 1
    assert found[Peer("other", "other", "")] == 2 * 50


def test_what_cannot_be_read_is_empty(tmp_path):
    assert peers.read("/proc/self/no-such") == b""
    assert peers.read(str(tmp_path)) == b""


def test_an_address_is_read_in_the_order_of_the_machine(monkeypatch):
    monkeypatch.setattr(peers.sys, "byteorder", "big")
    assert peers._address("7F000001:0050") == "127.0.0.1:80"


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
    before = process.take().gc_collections
    gc.collect()
    assert process.take().gc_collections[2] == before[2] + 1


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
    assert process.tasks() == 0

    async def main():
        others = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
        await asyncio.sleep(0)
        count = process.take().tasks
        for one in others:
            one.cancel()
        return count

    assert asyncio.run(main()) == 6


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


# What stops the interpreter.


@pytest.mark.parametrize("asked", ["uss", "sockets", "types"])
def test_what_would_stop_an_event_loop_is_refused_on_its_thread_and_done_on_another(asked):
    async def main():
        assert process.take().rss
        with pytest.raises(RuntimeError, match=r"stop the event loop .* asyncio\.to_thread"):
            process.take(**{asked: True})
        return await asyncio.to_thread(process.take, **{asked: True})

    assert getattr(asyncio.run(main()), asked)


def test_counting_objects_itself_is_refused_there_too():
    async def main():
        process.object_types()

    with pytest.raises(RuntimeError, match="event loop"):
        asyncio.run(main())


def test_a_snapshot_neither_collects_nor_lists_objects_unless_asked(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("stopped the interpreter")

    monkeypatch.setattr(gc, "collect", refuse)
    monkeypatch.setattr(gc, "get_objects", refuse)
    process.take(uss=True, sockets=True)
    with pytest.raises(AssertionError, match="stopped"):
        process.take(types=True)


class Thing:
    """Something of the user's own; an instance with a dict is known to the collector."""


class Shy(type):
    """A metaclass that answers nobody."""

    __module__ = property(lambda _: 1 / 0)

    def __hash__(cls):
        raise ZeroDivisionError

    def __eq__(cls, other):
        raise ZeroDivisionError


def test_objects_are_counted_by_the_qualified_name_of_their_type():
    kept = [Thing() for _ in range(5000)]
    name = f"{__name__}.Thing"
    assert process.object_types(1)[name] == len(kept)
    assert process.take(types=True).types[name] == pytest.approx(len(kept), rel=0.3)


def test_a_metaclass_is_asked_nothing():
    kept = [Shy("Hidden", (), {"__module__": None})() for _ in range(1)]
    kept += [type.__call__(type(kept[0])) for _ in range(3000)]
    assert process.object_types(1)["Hidden"] == len(kept)


def test_types_are_bounded_and_none_is_lost():
    kept = [type(f"Made{number}", (), {})() for number in range(200)]
    types = process.object_types(1)
    assert len(types) <= process.TYPES + 1
    assert types["other"] >= len(kept) - process.TYPES


def test_counting_keeps_nothing_alive():
    thing = Thing()
    ended = weakref.ref(thing)
    process.object_types(1)
    del thing
    assert ended() is None


def test_a_snapshot_of_a_thousand_descriptors_takes_milliseconds():
    pairs = [socket.socketpair() for _ in range(400)]
    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert process.take().fds > 800
        took.append(time.perf_counter() - began)
    for pair in pairs:
        for one in pair:
            one.close()
    assert min(took) < 0.02

"""What a snapshot tells on request only: sockets by peer, objects by type."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref

import pytest

from crawlo_otel_leaks import peers, process
from crawlo_otel_leaks.peers import Peer

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


def test_a_state_that_a_newer_kernel_has_is_unknown():
    assert [peers._state(peers._TCP, code) for code in (b"0A", b"0D")] == ["listen", "unknown"]


def test_where_descriptors_cannot_be_listed_their_sockets_are_not_known(monkeypatch):
    monkeypatch.setattr(process, "descriptors", lambda: None)
    assert process.take(sockets=True).sockets is None


def test_what_cannot_be_read_is_empty(tmp_path):
    assert peers.read("/proc/self/no-such") == b""
    assert peers.read(str(tmp_path)) == b""


def test_an_address_is_read_in_the_order_of_the_machine(monkeypatch):
    monkeypatch.setattr(peers.sys, "byteorder", "big")
    assert peers._address("7F000001:0050") == "127.0.0.1:80"


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


def test_what_is_left_over_is_estimated_too(monkeypatch):
    monkeypatch.setattr(process, "TYPES", 1)
    assert process.object_types(10)["other"] == pytest.approx(process.object_types(1)["other"], rel=0.1)


def test_where_there_are_few_types_none_is_left_over(monkeypatch):
    monkeypatch.setattr(process, "TYPES", 10**6)
    assert "other" not in process.object_types()


def test_counting_keeps_nothing_alive():
    thing = Thing()
    ended = weakref.ref(thing)
    process.object_types(1)
    del thing
    assert ended() is None

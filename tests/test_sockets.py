from __future__ import annotations

import _socket
import inspect
import os
import pickle
import resource
import socket
import ssl
import subprocess
import sys

import pytest
from conftest import watching
from garbage import collect, hearing
from socket_steps import HERE, listening, names, sockets

from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor
from crawlo_otel_leaks.settings import Settings

BEFORE = {name: vars(socket.socket).get(name) for name in ("__init__", "__del__", "_real_close", "detach", "accept")}
ABANDONED = ("socket", "abandoned")


@pytest.fixture
def watched(rig):
    """Sockets are watched."""
    with watching(rig, SocketsInstrumentor()):
        yield rig


@pytest.fixture
def server(watched):
    """A socket that listens, made under watch."""
    with listening() as made:
        yield made


@pytest.fixture
def address(server):
    return server.getsockname()


def connect(address):
    return socket.create_connection(address)


def test_each_is_held_under_a_name_of_its_own_until_it_is_closed(watched, server, address, tmp_path):
    client = connect(address)
    taken, peer = server.accept()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((HERE, 0))
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(tmp_path / "s"))
    port, mine = address[1], peer[1]
    assert names(watched) == sorted(
        [
            f"tcp {HERE}:{mine} -> {HERE}:{port}",
            f"tcp {HERE}:{port} -> {HERE}:{mine}",
            f"tcp listen {HERE}:{port}",
            f"udp {HERE}:{udp.getsockname()[1]}",
            f"unix {tmp_path / 's'}",
        ],
    )
    for one in (client, taken, udp, local, server):
        one.close()
    assert watched.held == []
    watched.settle()
    assert watched.verdicts == []


@pytest.mark.parametrize("settings", [Settings(capture_paths=False)])
def test_a_path_is_hidden_where_paths_are(watched, tmp_path, settings):
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "s"))
        assert names(watched) == ["unix (path hidden)"]


def test_one_that_is_dropped_open_is_abandoned_under_its_name(watched, address):
    client = connect(address)
    name = f"tcp {HERE}:{client.getsockname()[1]} -> {HERE}:{address[1]}"
    with pytest.warns(ResourceWarning, match="unclosed <socket.socket"):
        del client
    watched.runtime.tick()
    assert watched.verdicts == [ABANDONED]
    assert watched.recorder.opened_leaks[0].name == name
    assert watched.recorder.opened_leaks[0].where.function == "connect"


def test_so_is_one_that_only_the_collector_finds(watched, address):
    kept = [connect(address)]
    kept.append(kept)
    name = f"tcp {HERE}:{kept[0].getsockname()[1]} -> {HERE}:{address[1]}"
    del kept
    with pytest.warns(ResourceWarning, match="unclosed <socket.socket"):
        collect()
    watched.runtime.tick()
    assert [(leak.reason.value, leak.name) for leak in watched.recorder.opened_leaks] == [("abandoned", name)]


def test_the_warning_tells_the_line_that_it_tells_without_us(watched):
    made = socket.socket()
    with hearing() as caught:
        made = None
    assert made is None
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, inspect.currentframe().f_lineno - 2)]


def test_to_look_at_a_finalizer_is_no_drop(watched):
    with socket.socket() as made:
        inspect.getmembers(made)
        assert callable(made.__del__)
        assert len(sockets(watched)) == 1
    watched.settle()
    assert watched.verdicts == []


def test_it_is_open_as_long_as_a_file_of_its_is(watched, server, address):
    client = connect(address)
    file = client.makefile("rb")
    client.close()
    assert len(sockets(watched)) == 2
    file.close()
    assert names(watched) == [f"tcp listen {HERE}:{address[1]}"]


def test_what_is_detached_is_somebody_elses(watched, server):
    taken = os.dup(0)
    made = socket.socket()
    number = made.detach()
    assert len(sockets(watched)) == 1
    os.close(number)
    os.close(taken)


def test_whoever_takes_a_detached_one_has_it_from_where_it_was_made(watched, address):
    client = connect(address)
    again = socket.socket(fileno=client.detach())
    (handle,) = [one for one in sockets(watched) if one.referent() is again]
    assert handle.site.frames[0][0] is connect.__code__
    again.close()


def test_under_tls_it_is_the_same_one(watched, server, address):
    client = connect(address)
    (before,) = [one for one in sockets(watched) if one.referent() is client]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    secure = context.wrap_socket(client, server_hostname="localhost", do_handshake_on_connect=False)
    (after,) = [one for one in sockets(watched) if one.referent() is secure]
    assert after is before
    assert len(sockets(watched)) == 2
    secure.close()
    assert len(sockets(watched)) == 1


def test_both_of_a_pair_are_held(watched):
    one, other = socket.socketpair()
    copy = one.dup()
    assert len(sockets(watched)) == 3
    for made in (one, other, copy):
        made.close()
    assert watched.held == []


def test_the_refused_learns_who_holds_the_descriptors(watched):
    kept = [socket.socket() for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (kept[-1].fileno() + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as refused:
            kept.extend(socket.socket() for _ in range(50))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (note,) = refused.value.__notes__
    assert "test_sockets.py" in note
    for one in kept:
        one.close()


def test_a_child_knows_nothing_of_its_parents(watched):
    made = socket.socket()
    watched.runtime.tracker.clear()
    made.close()
    watched.settle()
    assert watched.recorder.released_handles == []
    assert watched.verdicts == []


def test_one_that_closes_itself_below_is_released(watched):
    made = socket.socket()
    _socket.socket.close(made)
    watched.settle()
    assert watched.held == []
    assert watched.verdicts == []


def test_everything_else_is_as_it_was(watched):
    with socket.socket() as made:
        assert type(made) is socket.socket
        assert isinstance(made, _socket.socket)
        assert repr(made).startswith("<socket.socket fd=")
        with pytest.raises(TypeError, match="cannot pickle 'socket' object"):
            pickle.dumps(made)
    assert str(inspect.signature(socket.socket)) == "(family=-1, type=-1, proto=-1, fileno=None)"


def test_uninstrumented_nothing_of_ours_is_left(watched):
    made = socket.socket()
    SocketsInstrumentor().uninstrument()
    assert {name: vars(socket.socket).get(name) for name in BEFORE} == BEFORE
    assert watched.held == []
    made.close()


def test_without_sockets_module_in_the_way_a_program_starts_and_ends(tmp_path):
    """The interpreter's own end finalizes what is left: no word of ours may come of it."""
    source = """
        import socket, sys
        from crawlo_otel_leaks.instrumentation.sockets import SocketsInstrumentor
        SocketsInstrumentor().instrument()
        left = socket.socket()
        sys.left = left
    """
    program = tmp_path / "app.py"
    program.write_text("\n".join(line.strip() for line in source.splitlines()))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")

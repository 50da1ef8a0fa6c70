"""What the tests of sockets have in common: connections to a local server, and who makes them."""

from __future__ import annotations

import socket
import types

from opentelemetry import trace

from crawlo_otel_leaks.instrumentation._socket_handles import SocketHandle

tracer = trace.get_tracer("tests")
HERE = "127.0.0.1"


def listening():
    return socket.create_server((HERE, 0))


def sockets(rig):
    return [handle for handle in rig.held if isinstance(handle, SocketHandle)]


def names(rig):
    return sorted(handle.label() for handle in sockets(rig))


def library(name, source, tmp_path):
    """A module of an installed library."""
    module = types.ModuleType(name)
    path = tmp_path / "site-packages" / name / "__init__.py"
    exec(compile(source, str(path), "exec"), vars(module))
    return module

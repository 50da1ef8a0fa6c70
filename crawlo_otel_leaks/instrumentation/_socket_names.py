"""What a person calls a socket, and what the kernel says of its connection; nothing here waits."""

from __future__ import annotations

import _socket
import socket
import sys
from typing import Any, Final, NamedTuple

CLOSE_WAIT: Final = 8
"""The peer has hung up, and we have not."""
LISTEN: Final = 10
_LENGTH: Final = 136
_INFO: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_STREAM: Final = int(socket.SOCK_STREAM)
_PROTOCOLS: Final = {_STREAM: "tcp", int(socket.SOCK_DGRAM): "udp", int(socket.SOCK_RAW): "raw"}
_INTERNET: Final = (int(socket.AF_INET), int(socket.AF_INET6))
_UNIX: Final = int(getattr(socket, "AF_UNIX", -1))
_TYPE: Final = 0xF

# A program may derive from socket.socket: these are the kernel's answers, not its.
_Base: Any = _socket.socket
fileno = _Base.fileno
_name, _peer, _option = _Base.getsockname, _Base.getpeername, _Base.getsockopt
_family, _kind = _Base.family.__get__, _Base.type.__get__


class Connection(NamedTuple):
    """What the kernel says of a TCP connection."""

    state: int
    token: bytes
    """Differs once bytes were received, or sent and acknowledged."""


def connection(sock: Any) -> Connection | None:
    """Return the state of a TCP socket; None for any other, and where the kernel does not say."""
    if _INFO is None or _family(sock) not in _INTERNET or _kind(sock) & _TYPE != _STREAM:
        return None
    try:
        info = _option(sock, socket.IPPROTO_TCP, _INFO, _LENGTH)
    except OSError:  # another protocol, or closed meanwhile
        return None
    # struct tcp_info: the first byte is the state, two counters of eight bytes are from 120 on, since Linux 4.1.
    return Connection(info[0], info[120:_LENGTH]) if len(info) == _LENGTH else None


def listens(sock: Any) -> bool:
    """Whether a socket waits for connections."""
    try:
        return bool(_option(sock, socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def describe(sock: Any, *, paths: bool) -> str:
    """Return `tcp 10.0.0.1:5000 -> 10.0.0.2:80`, `tcp listen ...`, `udp ...`, `unix /path`; `paths` as in Settings."""
    family = _family(sock)
    here, there = _address(sock, _name), _address(sock, _peer)
    if family == _UNIX:
        return " ".join(filter(None, ("unix", _path(there or here, paths=paths))))
    if family not in _INTERNET:
        return _family_name(family)
    protocol = _PROTOCOLS.get(_kind(sock) & _TYPE, "ip")
    if there:
        return f"{protocol} {_place(here)} -> {_place(there)}"
    if not here or not here[1]:  # neither bound nor connected
        return protocol
    return f"{protocol} listen {_place(here)}" if listens(sock) else f"{protocol} {_place(here)}"


def _address(sock: Any, ask: Any) -> Any:
    try:
        return ask(sock)
    except OSError:
        return None


def _place(address: Any) -> str:
    host, port = address[:2] if address else ("?", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _path(address: Any, *, paths: bool) -> str:
    if not address:
        return ""
    if isinstance(address, bytes):  # an abstract one begins with a zero
        address = "@" + address[1:].decode(errors="backslashreplace")
    return str(address) if paths else "(path hidden)"


def _family_name(family: int) -> str:
    try:
        return socket.AddressFamily(family).name.removeprefix("AF_").lower()
    except ValueError:
        return f"family {family}"

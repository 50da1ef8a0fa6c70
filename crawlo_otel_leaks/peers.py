"""Sockets by protocol, state and peer, from the kernel's own tables."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PEERS: Final = 100
"""Groups told apart; the rest is one group, `other`."""
_TCP: Final = (
    "",
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
)
_UNIX: Final = ("free", "unconnected", "connecting", "connected", "disconnecting")
_UNIX_LISTENS: Final = 0x10000
_CHUNK: Final = 1 << 16


class Peer(NamedTuple):
    """What sockets have in common; `peer` is `address:port`, empty where there is none or where it is a path."""

    protocol: str
    state: str
    peer: str


def by_peer(inodes: Mapping[int, int]) -> dict[Peer, int]:
    """Return how many of the sockets, given by inode and number of descriptors, are alike, the most first."""
    groups: Counter[Peer] = Counter()
    missing = dict(inodes)
    for inode, peer in _listed():
        groups[peer] += missing.pop(inode, 0)
    groups[Peer("other", "unlisted", "")] += sum(missing.values())  # neither bound nor connected, or of another kind
    common = [(peer, count) for peer, count in groups.most_common() if count]
    rest = sum(count for _, count in common[PEERS:])
    return dict([*common[:PEERS], (Peer("other", "other", ""), rest)] if rest else common)


def _listed() -> Iterator[tuple[int, Peer]]:
    """Yield inode and peer of every socket of the network namespace."""
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in read(f"/proc/self/net/{name}").splitlines()[1:]:
            fields = line.split()
            yield int(fields[9]), Peer(name.rstrip("6"), _state(_TCP, fields[3]), _address(fields[2].decode()))
    for line in read("/proc/self/net/unix").splitlines()[1:]:
        fields = line.split()
        state = "listen" if int(fields[3], 16) & _UNIX_LISTENS else _state(_UNIX, fields[5])
        yield int(fields[6]), Peer("unix", state, "")


def _state(names: tuple[str, ...], code: bytes) -> str:
    number = int(code, 16)
    return names[number] if number < len(names) else "unknown"


def _address(text: str) -> str:
    """Return `address:port` of the kernel's hexadecimal words, which are in the order of the machine."""
    words, _, port = text.partition(":")
    if not int(port, 16):
        return ""
    packed = bytes.fromhex(words)
    if sys.byteorder == "little":
        packed = b"".join(packed[start : start + 4][::-1] for start in range(0, len(packed), 4))
    if len(packed) == 4:  # noqa: PLR2004  (bytes of an IPv4 address)
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{int(port, 16)}"


def read(path: str) -> bytes:
    """Return a file of /proc, empty if it cannot be read; not by `open`, which may be watched."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(number, _CHUNK), b""))
    except OSError:
        return b""
    finally:
        os.close(number)

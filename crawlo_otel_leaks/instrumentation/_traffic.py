"""How many bytes went over a socket, as the kernel counts them."""

from __future__ import annotations

import socket
from typing import Any, Final

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
# Where Linux tells it: since 4.1, and since 4.19.
_RECEIVED: Final = slice(128, 136)
_SENT: Final = slice(200, 208)


def received(sock: Any) -> object:
    """Return a token that differs once more came in, None where nothing tells. What nobody reads stops coming in."""
    return _counted(sock, _RECEIVED)


def sent(sock: Any) -> object:
    """Return a token that differs once more was sent, None where nothing tells."""
    return _counted(sock, _SENT)


def _counted(sock: Any, where: slice) -> object:
    options = getattr(sock, "getsockopt", None)
    if options is None or _TCP_INFO is None:
        return None
    try:
        return options(socket.IPPROTO_TCP, _TCP_INFO, where.stop)[where] or None
    except (OSError, TypeError):  # closed meanwhile, a socket file, or uvloop's, which tells nothing
        return None

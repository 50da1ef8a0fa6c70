"""How many bytes came in on a socket, as the kernel counts them."""

from __future__ import annotations

import socket
from typing import Any, Final

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_RECEIVED: Final = slice(128, 136)
"""Where Linux 4.1 and newer tells it."""


def of(sock: Any) -> object:
    """Return a token that differs once more came in, None where nothing tells. What nobody reads stops coming in."""
    options = getattr(sock, "getsockopt", None)
    if options is None or _TCP_INFO is None:
        return None
    try:
        return options(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED.stop)[_RECEIVED] or None
    except (OSError, TypeError):  # closed meanwhile, a socket file, or uvloop's, which tells nothing
        return None

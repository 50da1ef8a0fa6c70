"""An aiohttp request that gets a connector slot, and nothing through it: what tracking costs, without a server."""

from __future__ import annotations

import contextlib
from typing import Final

from aiohttp import BaseConnector, ClientError, ClientRequest, ClientSession
from aiohttp.connector import Connection

URL: Final = "http://127.0.0.1:80"


class NowhereError(ClientError):
    """What each request ends with."""


class Protocol:
    """Of a connection that leads nowhere."""

    should_close = False


class Connector(BaseConnector):
    """Gives a slot, takes it back, and refuses."""

    async def connect(self, req: ClientRequest, *_: object, **__: object) -> Connection:
        """Be asked by a session."""
        Connection(self, req.connection_key, Protocol(), self._loop).release()
        raise NowhereError

    def _release(self, *_: object, **__: object) -> None:
        """Be what a connection calls in the end."""


class Client:
    """Has one session, as programs do."""

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def ask(self) -> None:
        """Do all that is watched of one request."""
        if self._session is None:
            self._session = ClientSession(connector=Connector())
        with contextlib.suppress(NowhereError):
            await self._session._request("GET", URL)  # noqa: SLF001  (which `get` and all others go through)

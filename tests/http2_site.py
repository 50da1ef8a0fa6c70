"""A small HTTP/2 server on 127.0.0.1, without TLS, for one connection after the other."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.exceptions import StreamClosedError


class Http2Site:
    """Answers `/small` at once, and each time sends some more of the newest `/endless`."""

    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{1}".format(*self._listening.getsockname())
        self.accepted = self.newest = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listening.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected):
        http = H2Connection(H2Configuration(client_side=False))
        http.initiate_connection()
        with connected, contextlib.suppress(OSError):
            connected.sendall(http.data_to_send())
            while data := connected.recv(65536):
                for event in http.receive_data(data):
                    if isinstance(event, RequestReceived):
                        self._answer(http, event.stream_id, dict(event.headers)[b":path"])
                connected.sendall(http.data_to_send())

    def _answer(self, http, number, path):
        http.send_headers(number, [(":status", "200")])
        if path == b"/endless":
            self.newest = number
        elif path == b"/small":
            http.send_data(number, b"small", end_stream=True)
        with contextlib.suppress(StreamClosedError):
            http.send_data(self.newest, bytes(10_000))


@pytest.fixture
def http2_site():
    site = Http2Site()
    yield site
    site.close()

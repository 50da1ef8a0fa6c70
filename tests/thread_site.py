"""A real HTTP/1.1 server on 127.0.0.1, a thread for each connection, for clients of any kind."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = bytes(8 * 1024 * 1024)
"""Fits in no buffer on the way, so that who does not read it holds the connection."""


class Handler(BaseHTTPRequestHandler):
    """Its pages are its methods; what waits goes on once the server's `proceed` is set."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the acknowledgement of its headers
    server: Server

    def do_GET(self):
        page = getattr(self, f"page_{urlsplit(self.path).path.strip('/')}")
        with contextlib.suppress(OSError):
            page()

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.page_small()

    def answer(self, status=200, body=b"", length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def page_small(self):
        self.answer(body=b"small")

    def page_large(self):
        self.answer(body=LARGE)

    def page_closing(self):
        self.answer(body=LARGE, Connection="close")
        self.close_connection = True

    def page_silent(self):
        """Never answer."""
        self.server.proceed.wait(60)
        self.close_connection = True

    def page_stalled(self):
        """Answer half, and the rest when told to proceed."""
        self.answer(body=b"half", length=8)
        self.wfile.flush()
        self.server.proceed.wait(60)
        self.wfile.write(b"rest")

    def page_redirect(self):
        self.answer(302, b"moved", Location="/small")

    def page_broken(self):
        self.answer(500, LARGE)

    def page_unavailable(self):
        self.answer(503, b"try again")

    def page_cut(self):
        """Close the connection without a word."""
        self.close_connection = True

    def page_short(self):
        """Promise more than comes."""
        self.answer(body=b"half", length=8)
        self.close_connection = True

    def log_message(self, *args):
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Once closed it has no thread and no connection left, which the next test would see end."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.proceed = threading.Event()
        self.talking = set()
        self.url = "http://127.0.0.1:{1}".format(*self.server_address)

    def process_request(self, request, client_address):
        self.talking.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.talking.discard(request)
        super().shutdown_request(request)

    def hang_up(self):
        for request in list(self.talking):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """Say nothing of clients that went away."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.proceed.set()
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()


@pytest.fixture
def threaded_site() -> Iterator[Server]:
    with serving() as server:
        yield server

"""requests #2924: a streamed response of which only the status is read holds its connection until it is collected."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from opentelemetry import trace

SERVER = ""
LEAKS = [("http.connection", "abandoned", "status")]
LARGE = bytes(8 * 1024 * 1024)


def leaky(_url: str) -> None:
    crawl(status)


def clean(_url: str) -> None:
    crawl(status_closed)


def crawl(ask):
    with serving() as url, requests.Session() as session:
        for _ in range(3):
            with trace.get_tracer("corpus").start_as_current_span("job"):
                ask(session, url)


def status(session, url):
    return session.get(url, stream=True).status_code


def status_closed(session, url):
    with session.get(url, stream=True) as response:
        return response.status_code


class Large(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(LARGE)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(LARGE)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Large)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://127.0.0.1:{1}/".format(*server.server_address)
    server.shutdown()
    server.server_close()

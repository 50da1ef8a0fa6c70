"""urllib3 #2557: in a pool that blocks, leaving a response by `with` closes its connection and loses its place."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3
from opentelemetry import trace

SERVER = ""
LEAKS = [("http.connection", "owner_finished", "status")]
LARGE = bytes(8 * 1024 * 1024)


def leaky(_url: str) -> None:
    crawl(status)


def clean(_url: str) -> None:
    crawl(status_released)


def crawl(ask):
    with serving() as url, urllib3.PoolManager(maxsize=3, block=True) as manager:
        for _ in range(3):
            with trace.get_tracer("corpus").start_as_current_span("job"):
                ask(manager, url)
        time.sleep(0.5)  # it crawls elsewhere; here the next request would wait for ever


def status(manager, url):
    with manager.request("GET", url, preload_content=False) as response:
        return response.status


def status_released(manager, url):
    with manager.request("GET", url, preload_content=False) as response:
        found = response.status
    response.release_conn()
    return found


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

"""A threaded worker over requests, and over a urllib3 pool that blocks: pages, streams, redirects, failures."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
import urllib3
from opentelemetry import trace

SERVER = ""
tracer = trace.get_tracer("soak")
JOBS = 2_500
LARGE = bytes(256 * 1024)


def serve(_url: str) -> None:
    with serving() as url, requests.Session() as session, urllib3.PoolManager(maxsize=8, block=True) as manager:
        session.trust_env = False
        with ThreadPoolExecutor(16) as executor:
            list(executor.map(lambda number: job(session, manager, url, number), range(JOBS)))


def job(session, manager, url, number):
    with tracer.start_as_current_span("job"):
        session.get(url + ("/redirect" if number % 7 == 0 else "/small")).raise_for_status()
        with session.get(url + "/large", stream=True) as response:
            next(response.iter_content(1024))
        manager.request("GET", url + "/small")
        response = manager.request("GET", url + "/large", preload_content=False)
        response.drain_conn()
        if number % 20 == 0:
            with contextlib.suppress(requests.ConnectionError):
                session.get(url + "/cut")
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                manager.request("GET", url + "/cut", retries=urllib3.Retry(1, backoff_factor=0))
        if number % 100 == 0:
            requests.get(url + "/small", timeout=10).raise_for_status()


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/cut":
            self.close_connection = True
            return
        body = LARGE if self.path == "/large" else b"small"
        self.send_response(302 if self.path == "/redirect" else 200)
        if self.path == "/redirect":
            self.send_header("Location", "/small")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients hang up on it
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://127.0.0.1:{1}".format(*server.server_address)
    server.shutdown()
    server.server_close()

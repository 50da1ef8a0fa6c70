"""A server of threads, and a pool of threads whose clients are sockets of their own or the standard library's."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import trace

SERVER = ""
REQUESTS = 10_000
KEPT_ALIVE = 10
tracer = trace.get_tracer("soak")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        """Be silent."""


def serve(_url: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.request_queue_size = 128
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, [server.server_address] * (REQUESTS // KEPT_ALIVE)))
        server.shutdown()
        thread.join()


def ask(address):
    with tracer.start_as_current_span("ask"):
        client = http.client.HTTPConnection(*address)
        for _ in range(KEPT_ALIVE - 1):
            client.request("GET", "/")
            client.getresponse().read()
        client.close()
        with socket.create_connection(address) as plain, plain.makefile("rwb") as file:
            file.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            file.flush()
            assert file.read().endswith(b"ok")

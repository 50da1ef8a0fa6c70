"""Real OTLP receivers on 127.0.0.1, gRPC and HTTP, that keep what they decode."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

_HTTP = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
}


class Item(NamedTuple):
    """One decoded span, log record or metric, and where it came from."""

    data: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


def plain(attributes: Iterable[Any]) -> dict[str, Any]:
    """Key-value protobuf as a dict."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


class Received:
    """All that came in, in order; may be read while more comes."""

    def __init__(self) -> None:
        self._spans: list[Item] = []
        self._logs: list[Item] = []
        self._metrics: list[Item] = []
        self.encodings: set[str] = set()

    def take(self, request: Any) -> None:
        for group in getattr(request, "resource_spans", ()):
            self._spans += _items(group, group.scope_spans, "spans")
        for group in getattr(request, "resource_logs", ()):
            self._logs += _items(group, group.scope_logs, "log_records")
        for group in getattr(request, "resource_metrics", ()):
            self._metrics += _items(group, group.scope_metrics, "metrics")

    def spans(self, prefix: str = "") -> list[Item]:
        return [item for item in list(self._spans) if item.data.name.startswith(prefix)]

    def span(self, name: str) -> Item:
        """The one span of that name."""
        (found,) = [item for item in self.spans(name) if item.data.name == name]
        return found

    def events(self, prefix: str = "crawlo.") -> list[Item]:
        return [item for item in list(self._logs) if item.data.event_name.startswith(prefix)]

    def metrics(self) -> dict[str, Item]:
        """The newest of each name."""
        return {item.data.name: item for item in list(self._metrics)}

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and newest point of each series of a metric."""
        metric = self.metrics()[name].data
        return [(plain(point.attributes), point) for point in getattr(metric, metric.WhichOneof("data")).data_points]

    def wait(self, what: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Return what `what` returns once that is true; raise TimeoutError."""
        end = time.monotonic() + seconds
        while not (result := what()):
            if time.monotonic() > end:
                raise TimeoutError(f"not received within {seconds} s")
            time.sleep(0.02)
        return result


def _items(group: Any, scopes: Any, name: str) -> list[Item]:
    resource = plain(group.resource.attributes)
    return [
        Item(data, plain(getattr(data, "attributes", ())), resource, scope.scope.name)
        for scope in scopes
        for data in getattr(scope, name)
    ]


class HttpReceiver(Received):
    """OTLP over HTTP with protobuf bodies, plain or gzipped."""

    protocol = "http/protobuf"

    def __enter__(self) -> Self:
        received = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                encoding = self.headers.get("Content-Encoding", "identity")
                received.encodings.add(encoding)
                request, response = _HTTP[self.path]
                received.take(request.FromString(gzip.decompress(body) if encoding == "gzip" else body))
                answer = response().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class GrpcReceiver(Received):
    """OTLP over gRPC."""

    protocol = "grpc"

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(4))
        for stubs, service, response in (
            (trace_service_pb2_grpc, "TraceService", trace_service_pb2.ExportTraceServiceResponse),
            (logs_service_pb2_grpc, "LogsService", logs_service_pb2.ExportLogsServiceResponse),
            (metrics_service_pb2_grpc, "MetricsService", metrics_service_pb2.ExportMetricsServiceResponse),
        ):
            servicer = type(service, (getattr(stubs, f"{service}Servicer"),), {"Export": self._export(response)})
            getattr(stubs, f"add_{service}Servicer_to_server")(servicer(), self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(5)

    def _export(self, response: Callable[[], Any]) -> Callable[..., Any]:
        def export(_servicer: object, request: Any, _context: object) -> Any:
            self.take(request)
            return response()

        return export


RECEIVERS = {"grpc": GrpcReceiver, "http": HttpReceiver}


@contextmanager
def black_hole() -> Iterator[HttpReceiver]:
    """A collector that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        hole = HttpReceiver()
        hole.endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield hole

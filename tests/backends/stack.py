"""The real programs on loopback: collectors with collector-config/, Jaeger, Zipkin, Prometheus."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlo_otel_leaks.demo.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONFIG = ROOT / "collector-config"
BUILT = ROOT / ".cache" / "backends"
OTELCOL, JAEGER, ZIPKIN = BUILT / "otelcol", BUILT / "jaeger", BUILT / "zipkin.jar"


def missing() -> str:
    """What this machine lacks of what the tests run, in one line; nothing if it has all."""
    files = {"the collector": OTELCOL, "Jaeger": JAEGER, "Zipkin": ZIPKIN}
    lacks = [name for name, path in files.items() if not path.exists()]
    lacks += [name for name in ("java", "prometheus", "promtool") if not shutil.which(name)]
    return f"not on this machine: {', '.join(lacks)} (make backends gets what it can)" if lacks else ""


def main() -> int:
    """Say what is missing; exit code 1 if anything is."""
    lacking = missing()
    print(lacking or "all backends are there")
    return int(bool(lacking))


def address() -> str:
    return f"127.0.0.1:{free_port()}"


def wait(what: Callable[[], Any], seconds: float = 30.0, for_what: str = "it") -> Any:
    """Return what `what` returns once that is true; raise TimeoutError."""
    end = time.monotonic() + seconds
    while not (result := what()):
        if time.monotonic() > end:
            raise TimeoutError(f"{for_what} did not come within {seconds} s")
        time.sleep(0.1)
    return result


def fetch(url: str, **query: str) -> Any:
    """The decoded JSON at an address; None while nobody answers."""
    full = f"{url}?{urllib.parse.urlencode(query)}" if query else url
    try:
        with urllib.request.urlopen(full, timeout=60) as answer:  # ten thousand traces are told in one piece
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def fetch_text(url: str, seconds: float = 10.0) -> str:
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


class Endpoint(NamedTuple):
    """Where a program under test sends to, as tests/programs.py asks for it."""

    endpoint: str
    protocol: str = "grpc"


class Program:
    """A server that runs until it is stopped, or killed; its output is in a file."""

    def __init__(self, where: Path, name: str, command: list[str], health: str = "", **environment: str) -> None:
        self.name = name
        self.log = where / f"{name}.log"
        self._command, self._health = command, health
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, seconds: float = 90.0) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self.log.parent, env=self._environment
            )
        if self._health:
            wait(self._up, seconds, f"{self.name} (see {self.log})")
        return self

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """As the machine's end would."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _up(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.log.read_text()[-2000:]}")
        return bool(fetch_text(self._health))


class Jaeger(Program):
    """Jaeger 2 with collector-config/jaeger.yaml."""

    def __init__(self, where: Path) -> None:
        self.otlp, self.ui, health = address(), address(), address()
        super().__init__(
            where,
            "jaeger",
            [str(JAEGER), "--config", str(CONFIG / "jaeger.yaml")],
            f"http://{health}/status",
            JAEGER_OTLP=self.otlp,
            JAEGER_UI=self.ui,
            JAEGER_GRPC=address(),
            JAEGER_HEALTH=health,
        )

    def traces(self, service: str, operation: str = "", limit: int = 10000) -> list[dict[str, Any]]:
        """Traces of a service, by the API that the UI asks; none is what Jaeger said, not that it kept silent."""
        query = {
            "service": service,
            "limit": str(limit),
            "lookback": "1d",
            **({"operation": operation} if operation else {}),
        }
        found = wait(lambda: fetch(f"http://{self.ui}/api/traces", **query), 120, "an answer of Jaeger")
        return list(found["data"] or [])

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        found = fetch(f"http://{self.ui}/api/traces/{trace_id}")
        return dict(found["data"][0]) if found and found["data"] else None


class Zipkin(Program):
    """Zipkin from its jar, traces in memory."""

    def __init__(self, where: Path) -> None:
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.spans = f"{self.base}/api/v2/spans"
        command = ["java", "-Xmx256m", "-jar", str(ZIPKIN)]
        super().__init__(where, "zipkin", command, f"{self.base}/health", QUERY_PORT=str(port))


class Collector(Program):
    """otelcol with configurations of collector-config/, one on top of the other."""

    def __init__(self, where: Path, name: str, *configs: str, **environment: str) -> None:
        self.grpc, self.http, self.prometheus = address(), address(), address()
        own, health = free_port(), address()
        self.own_metrics = f"http://127.0.0.1:{own}/metrics"
        paths = [config if config.startswith("yaml:") else str(CONFIG / config) for config in configs]
        arguments = [argument for path in paths for argument in ("--config", path)]
        named = {
            "OTLP_GRPC": self.grpc,
            "OTLP_HTTP": self.http,
            "PROMETHEUS": self.prometheus,
            "HEALTH": health,
            "OWN_METRICS_HOST": "127.0.0.1",
            "OWN_METRICS_PORT": str(own),
            "QUEUE_DIR": str(where / f"{name}-queue"),
            "LOGS_FILE": str(where / f"{name}-events.jsonl"),
            "TELEMETRY_FILE": str(where / f"{name}-telemetry.jsonl"),
        }
        self.events, self.telemetry = Path(named["LOGS_FILE"]), Path(named["TELEMETRY_FILE"])
        has_health = "local.yaml" not in configs
        super().__init__(
            where,
            name,
            [str(OTELCOL), *arguments],
            f"http://{health}/" if has_health else "",
            **{**named, **environment},
        )

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"http://{self.grpc}")


class Prometheus(Program):
    """Debian's Prometheus with collector-config/prometheus.yml, in a hurry and asking these gateways."""

    def __init__(self, where: Path, gateway: Collector) -> None:
        listen = address()
        self.base = f"http://{listen}"
        own = gateway.own_metrics.removeprefix("http://").removesuffix("/metrics")
        config = (CONFIG / "prometheus.yml").read_text()
        config = config.replace("gateway:9464", gateway.prometheus).replace("gateway:8888", own)
        (where / "prometheus.yml").write_text(config.replace("30s", "1s").replace("25s", "1s"))
        rules = (CONFIG / "alerts.yaml").read_text()
        (where / "alerts.yaml").write_text(rules.replace("for: 5m", "for: 2s").replace("for: 1m", "for: 2s"))
        super().__init__(
            where,
            "prometheus",
            [
                "prometheus",
                f"--config.file={where / 'prometheus.yml'}",
                f"--storage.tsdb.path={where / 'tsdb'}",
                f"--web.listen-address={listen}",
            ],
            f"{self.base}/-/ready",
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        found = wait(lambda: fetch(f"{self.base}/api/v1/query", query=expression), for_what="an answer of Prometheus")
        return list(found["data"]["result"])

    def alerts(self) -> list[dict[str, Any]]:
        found = wait(lambda: fetch(f"{self.base}/api/v1/alerts"), for_what="an answer of Prometheus")
        return list(found["data"]["alerts"])


if __name__ == "__main__":
    sys.exit(main())

"""Plays N processes' telemetry into a real gateway and measures what it costs there: CPU, memory, bytes on a scrape.

    python tests/backends/fleet.py spans --spans 200000
    python tests/backends/fleet.py metrics --processes 1000 --fingerprints 5

What is counted is the gateway's own CPU time, so that the load's share of the same machine does not matter.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import made_up
import stack

TRACE = 5
"""Spans of a trace."""
BATCH = 500
"""Spans of a request: the SDK's default is 512."""


class Measured:
    """What a collector used between two moments."""

    def __init__(self, program: stack.Program) -> None:
        self._program = program
        self._began, self._cpu = time.monotonic(), program.cpu_seconds()
        self.before = program.resident_mib()

    def until_now(self) -> tuple[float, float, float]:
        """Return seconds, CPU seconds and MiB of memory now."""
        used = self._program.cpu_seconds() - self._cpu
        return time.monotonic() - self._began, used, self._program.resident_mib()


def gateway(where: Path, jaeger: stack.Jaeger, wait: str, percentage: str) -> stack.Collector:
    return stack.Collector(
        where,
        "gateway",
        "gateway.yaml",
        TRACES=jaeger.otlp,
        DECISION_WAIT=wait,
        SAMPLING_PERCENTAGE=percentage,
        MEMORY_MIB="8192",
        TRACES_IN_MEMORY="2000000",
    ).start()


def play_spans(sender: made_up.Sender, spans: int, leaky: float) -> None:
    """Send so many spans in traces of TRACE; one trace in 1/leaky has a leak."""
    request = made_up.traces(made_up.resource(1), [made_up.page(b"0" * 16) for _ in range(BATCH)])
    block = request.resource_spans[0].scope_spans[0].spans
    for sent in range(0, spans, BATCH):
        request.resource_spans[0].resource.CopyFrom(made_up.resource(sent // BATCH))
        for start in range(0, BATCH, TRACE):
            trace_id, root = os.urandom(16), os.urandom(8)
            for number, span in enumerate(block[start : start + TRACE]):
                span.trace_id = trace_id
                span.span_id = root if number == 0 else os.urandom(8)
                span.parent_span_id = b"" if number == 0 else root
        sender.traces(request)
        if (sent // BATCH) % max(1, round(TRACE / leaky / BATCH)) == 0:
            leak = made_up.leak(block[0].trace_id, block[0].span_id, sent)
            sender.traces(made_up.traces(made_up.resource(sent // BATCH), [leak]))


def measure_spans(where: Path, arguments: argparse.Namespace) -> None:
    jaeger = stack.Jaeger(where).start()
    program = gateway(where, jaeger, arguments.decision_wait, arguments.percentage)
    try:
        with made_up.Sender(program.grpc) as sender:
            play_spans(sender, BATCH, 0.001)  # warm
            measured = Measured(program)
            play_spans(sender, arguments.spans, 0.001)
            seconds, cpu, memory = measured.until_now()
        print(f"{arguments.spans} spans in {seconds:.1f} s: {arguments.spans / seconds:,.0f} spans/s accepted")
        each = f"{1e6 * cpu / arguments.spans:.1f} us each"
        print(f"CPU {cpu:.1f} s: {arguments.spans / cpu:,.0f} spans/s of one core; {each}")
        grown = memory - measured.before
        each = f"{grown * 2**20 / arguments.spans:,.0f} bytes a waiting span"
        print(f"memory {measured.before:.0f} -> {memory:.0f} MiB: {each}")
    finally:
        program.stop()
        jaeger.stop()


def measure_metrics(where: Path, arguments: argparse.Namespace) -> None:
    jaeger = stack.Jaeger(where).start()
    program = gateway(where, jaeger, "10s", "0")
    try:
        with made_up.Sender(program.grpc) as sender:
            measured = Measured(program)
            sent = 0
            for number in range(arguments.processes):
                request = made_up.metrics(made_up.resource(number), arguments.fingerprints)
                sent += request.ByteSize()
                sender.metrics(request)
            seconds, cpu, memory = measured.until_now()
        began = time.monotonic()
        exposed = stack.fetch_text(f"http://{program.prometheus}/metrics", 120)
        took = time.monotonic() - began
        series = sum(1 for line in exposed.splitlines() if line and not line.startswith("#"))
        each = arguments.processes
        print(f"{each} processes: {series} series, {series / each:.0f} a process; {sent / each:,.0f} bytes an export")
        print(f"CPU {1e3 * cpu / each:.2f} ms an export; accepted in {seconds:.1f} s")
        grown = (memory - measured.before) * 1024 / each
        print(f"memory {measured.before:.0f} -> {memory:.0f} MiB: {grown:.0f} KiB a process")
        print(f"scrape {len(exposed) / 2**20:.1f} MiB in {took:.1f} s; memory then {program.resident_mib():.0f} MiB")
    finally:
        program.stop()
        jaeger.stop()


def main() -> int:
    if lacking := stack.missing():
        print(lacking)
        return 2
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    spans = commands.add_parser("spans")
    spans.add_argument("--spans", type=int, default=200_000)
    spans.add_argument("--decision-wait", default="6m")
    spans.add_argument("--percentage", default="1")
    spans.set_defaults(run=measure_spans)
    metrics = commands.add_parser("metrics")
    metrics.add_argument("--processes", type=int, default=1000)
    metrics.add_argument("--fingerprints", type=int, default=5)
    metrics.set_defaults(run=measure_metrics)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        arguments.run(Path(folder), arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())

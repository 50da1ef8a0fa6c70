"""A threaded worker that runs programs: run, check_output, pipes, shells, timeouts, failures, a pool of processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from opentelemetry import trace

SERVER = ""
tracer = trace.get_tracer("soak")


def serve(url: str) -> None:
    # Forked before there are threads, as it should be.
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        assert sum(executor.map(abs, range(2_000))) == sum(range(2_000))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(job, range(700)))


def job(number):
    with tracer.start_as_current_span("job"):
        subprocess.run(["true"], check=True)
        assert subprocess.run(["cat"], input=b"some", capture_output=True, check=True).stdout == b"some"
        with subprocess.Popen(["echo", "some"], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.read() == "some\n"
        assert subprocess.Popen("exit 3", shell=True, stderr=subprocess.PIPE).communicate() == (None, b"")
        with contextlib.suppress(FileNotFoundError):
            subprocess.check_output("no such program")
        with os.popen("true") as pipe:
            pipe.read()
        if number % 50 == 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["sleep", "60"], timeout=0.001, check=False)
            process = multiprocessing.get_context("spawn").Process(target=int)
            process.start()
            process.join()

"""Clean programs with tasks and threads, ten thousand times over, under the real loader: nothing is told."""

from __future__ import annotations

import json

import pytest
from programs import run

SERVER = """
import asyncio, sys
import aiohttp, uvloop
from aiohttp import web
from opentelemetry import trace
tracer = trace.get_tracer("program")
kept = set()

async def afterwards():
    await asyncio.sleep(0.01)

async def hello(request):
    with tracer.start_as_current_span("request"):
        await asyncio.gather(asyncio.sleep(0), asyncio.create_task(asyncio.sleep(0)))
        await asyncio.wait_for(asyncio.sleep(0), 1)
        task = asyncio.create_task(afterwards())
        kept.add(task)
        task.add_done_callback(kept.discard)
        return web.Response(text="hello")

async def visit(session, url, times):
    for _ in range(times):
        async with session.get(url) as response:
            assert await response.text() == "hello"

async def main(times):
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://127.0.0.1:%d/" % runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(visit(session, url, times // 20) for _ in range(20)))
    await runner.cleanup()

"""

POOL = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import trace

async def lend(times):
    for _ in range(times // 100):
        await asyncio.gather(*(asyncio.to_thread(abs, 1) for _ in range(100)))

with trace.get_tracer("program").start_as_current_span("job"):
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(abs, range({times})))
    asyncio.run(lend({times}))
    for _ in range({times} // 10):
        thread = threading.Thread(target=abs, args=(1,))
        thread.start()
        thread.join()
"""

STARTS = {
    "asyncio": "asyncio.run(main({times}))",
    "asyncio, debug": "asyncio.run(main({times}), debug=True)",
    "uvloop": "uvloop.run(main({times}))",
    "uvloop, debug": "uvloop.run(main({times}), debug=True)",
    "threads": None,
}
TIMES = [pytest.param(200, id="200"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("program", list(STARTS))
def test_a_clean_program_is_healthy(tmp_path, program, times):
    start = STARTS[program]
    source = POOL if start is None else SERVER + start
    # A grace that a machine under load does not use up between two steps of a loop.
    settings = {"REPORT": "leaks.json", "GRACE": "2", "SCAN_INTERVAL": "0.2"}
    done = run(tmp_path, source.replace("{times}", str(times)), timeout=300, **settings)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "leaks.json").read_text(encoding="utf-8"))
    assert report["leaks"] == []
    assert report["status"] == "healthy"


LEAKY = """
import asyncio, threading
from opentelemetry import trace
tracer = trace.get_tracer("program")
kept = []

async def handle():
    with tracer.start_as_current_span("request"):
        kept.append(asyncio.create_task(asyncio.sleep(60)))
        kept.append(asyncio.create_task(asyncio.sleep(60), name="mine"))
        threading.Thread(target=stop.wait, name="helper").start()

async def main():
    for _ in range(2):
        await asyncio.create_task(handle())
    await asyncio.sleep(1.5)
    stop.set()

stop = threading.Event()
asyncio.run(main())
"""


def test_a_leaky_one_is_told_by_name_and_resolved(tmp_path):
    done = run(tmp_path, LEAKY, REPORT="leaks.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "leaks.json").read_text(encoding="utf-8"))
    told = sorted((leak["kind"], leak["reason"], leak["name"], leak["count"]) for leak in report["leaks"])
    assert told == [
        ("task", "owner_finished", "mine", 2),
        ("task", "owner_finished", "sleep", 2),
        ("thread", "owner_finished", "helper", 2),
    ]
    assert all(leak["resolved"] for leak in report["leaks"])


HANGING = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait, args=(1.5,), name="forgotten").start()
"""


def test_an_exit_that_waits_for_a_thread_says_which(tmp_path):
    done = run(tmp_path, HANGING)
    assert done.returncode == 0
    assert "the interpreter waits to exit for thread forgotten, started by" in done.stderr

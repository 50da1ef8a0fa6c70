"""The descriptors of whole programs, watched as they would be, are explained by handles: all of them."""

from __future__ import annotations

import pytest
from programs import run

PREAMBLE = """
import asyncio, concurrent.futures, contextlib, gc, selectors, socket, socketserver, sys, threading, time
from crawlo_otel_leaks import runtime

def unexplained():
    vitals = runtime.current().vitals
    held = vitals._descriptors()
    return [(number, held[number].type) for number in vitals._unexplained(held, vitals._explained())]

async def echo(reader, writer):
    writer.write(await reader.read(1))
    await reader.read()
    writer.close()

async def ask(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x")
    await reader.read(1)
    return writer

async def serve(leak):
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    kept = [await ask(address) for _ in range(5)]
    print(unexplained())
    if leak:
        return
    for writer in kept:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    print(unexplained())
"""

ASYNCIO = """
asyncio.run(serve({leak}))
print(unexplained())
"""

UVLOOP = """
import uvloop
loop = uvloop.new_event_loop()
loop.run_until_complete(serve({leak}))
loop.close()
print(unexplained())
"""

THREADS = """
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(self.request.recv(1))
        self.request.recv(1)

def client(address):
    made = socket.create_connection(address)
    made.sendall(b"x")
    made.recv(1)
    return made

with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(client, [server.server_address] * 5))
    print(unexplained())
    for made in kept:
        made.close()
    server.shutdown()
print(unexplained())
"""

AIOHTTP = """
import aiohttp
from aiohttp import web

async def answer(request):
    return web.Response(body=bytes(1 << 20) if request.path == "/large" else b"ok")

async def crawl(leak):
    app = web.Application()
    app.router.add_get("/{{path}}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://127.0.0.1:%d/" % runner.addresses[0][1]
    session = aiohttp.ClientSession()
    kept = [await session.get(url + "large") for _ in range(3)]
    async with session.get(url + "small") as response:
        await response.read()
    print(unexplained())
    if not leak:
        for response in kept:
            response.release()
        await session.close()
        await runner.cleanup()
        print(unexplained())

asyncio.run(crawl({leak}))
"""


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("program", [ASYNCIO, UVLOOP, THREADS, AIOHTTP])
def test_no_descriptor_is_unexplained(tmp_path, program, leak):
    done = run(tmp_path, PREAMBLE + program.format(leak=leak), SCAN_INTERVAL="60")
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told
    assert set(told) == {"[]"}
    assert "goes on without tracking" not in done.stderr

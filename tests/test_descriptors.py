"""Too many open files: the error says who holds them, in a process of its own with few to give."""

from __future__ import annotations

import errno

import programs
import pytest
import servers

from crawlo_otel_leaks import blame

BODY = """
import errno, resource

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []

def hoard():
    while True:
        kept.append(open("hoarded.txt", {mode}))

with trace.get_tracer("app").start_as_current_span("hoarder"):
    try:
        hoard()
    except OSError as error:
        print(error.errno == errno.EMFILE, *error.__notes__, sep="\\n")
for file in kept:
    file.close()
try:
    open("missing.txt")
except FileNotFoundError as error:
    print(getattr(error, "__notes__", []))
"""


@pytest.mark.parametrize("mode", ['"w"', '"wb", 0'])
def test_the_error_says_which_line_holds_the_descriptors(tmp_path, mode):
    done = programs.run(tmp_path, programs.source(BODY.replace("{mode}", mode)))
    emfile, note, none = done.stdout.splitlines()
    assert (emfile, none) == ("True", "[]")
    held = int(note.split()[0])
    assert 40 < held < 64
    assert f"{held} of 64 descriptors, as far as they are watched, held: {held} since up to 0 s by app.py:" in note
    assert " hoard; trace " in note
    assert done.returncode == 0


CLIENTS = {
    "redis": """
import redis

def ask():
    redis.Redis(host="127.0.0.1", port={port}).get("key")
""",
    "aiohttp": """
import asyncio, aiohttp

def ask():
    async def get():
        async with aiohttp.ClientSession() as session, session.get("http://127.0.0.1:{port}/"):
            pass
    loop.run_until_complete(get())

loop = asyncio.new_event_loop()
""",
}
HOARD = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []
try:
    while True:
        kept.append(open("hoarded.txt", "w"))
except OSError:
    pass
try:
    ask()
except Exception as error:
    print(len(error.__notes__), error.__notes__[0].partition(" held: ")[0])
for file in kept:
    file.close()
"""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_gets_no_socket_is_told_too(tmp_path, client):
    host, port = servers.valkey()
    assert host == "127.0.0.1"
    body = CLIENTS[client].replace("{port}", str(port)) + HOARD
    done = programs.run(tmp_path, programs.source(body), OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="aiohttp-client")
    assert "of 64 descriptors, as far as they are watched," in done.stdout, done.stderr
    assert done.stdout.startswith("1 ")
    assert done.returncode == 0


def test_only_a_lack_of_descriptors_is_one():
    lack = OSError(errno.EMFILE, "Too many open files")
    wrapped = ConnectionError("Error 24 connecting to localhost:6379. Too many open files.")
    caused = RuntimeError("no connection")
    caused.__cause__ = lack
    assert all(blame.out_of_descriptors(error) for error in (lack, wrapped, caused))
    looped = RuntimeError("no connection")
    looped.__context__ = ValueError("x")
    looped.__context__.__context__ = looped
    assert not any(blame.out_of_descriptors(error) for error in (OSError(errno.ENOENT, "x"), looped))


def test_who_was_told_already_is_not_told_again(rig):
    error = OSError(errno.EMFILE, "Too many open files")
    for _ in range(2):
        blame.explain(rig.runtime.tracker, error)
    assert len(error.__notes__) == 1
    assert len(rig.runtime.tracker.exhausted) == 1

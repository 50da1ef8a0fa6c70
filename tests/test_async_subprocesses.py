from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading

import pytest
from child_steps import ABANDONED, LEAK, SLEEP, alive
from garbage import collect, settle
from task_steps import LOOPS, in_a_request
from task_steps import run as run_on

from crawlo_otel_leaks.instrumentation.subprocesses import SubprocessesInstrumentor

pytest_plugins = ["watched_children"]
PIPE = subprocess.PIPE
# A child of uvloop's is waited for by a handler of SIGCHLD, one of asyncio's by a thread or a descriptor.
loud = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
each_loop = pytest.mark.parametrize("loop", list(LOOPS))


def run(main, loop="asyncio"):
    return run_on(main, loop)


def start(*command, **options):
    return asyncio.create_subprocess_exec(*command, **options)


async def waits():
    child = await start("true")
    assert await child.wait() == 0


async def communicates():
    child = await start("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await child.communicate(b"some") == (b"some", b"")


async def of_a_shell():
    child = await asyncio.create_subprocess_shell("exit 3", stdout=PIPE)
    assert await child.communicate() == (b"", None)
    assert child.returncode == 3


async def of_another_task():
    child = await asyncio.wait_for(start("true", stdout=PIPE), 60)
    await child.communicate()


async def is_killed():
    child = await start(*SLEEP)
    child.kill()
    assert await child.wait() == -signal.SIGKILL


async def fails_to_start():
    with pytest.raises(FileNotFoundError):
        await start("no such program", stdout=PIPE)


class Protocol(asyncio.SubprocessProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.ended.set_result(None)


async def of_the_loop():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Protocol, "true", stdin=None, stdout=PIPE)
    await protocol.ended
    transport.close()
    assert transport.get_returncode() == 0


WAYS = [waits, communicates, of_a_shell, of_another_task, is_killed, fails_to_start, of_the_loop]


@each_loop
@pytest.mark.parametrize("way", WAYS)
def test_what_is_waited_for_is_never_told(children_watched, way, loop):
    async def main():
        for _ in range(3):
            await in_a_request(way())
            assert alive(children_watched) == []
        children_watched.settle()

    run(main(), loop)
    children_watched.settle()
    assert children_watched.verdicts == []
    assert len(children_watched.recorder.released_handles) >= (0 if way is fails_to_start else 3)


async def leave(kept, times=1):
    for _ in range(times):
        kept.append(await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE))


async def ended(*children):
    for child in children:
        child.kill()
        await child.wait()


@each_loop
def test_several_that_idle_after_their_requests_are_leaks_at_their_line(children_watched, loop):
    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept))
        children_watched.settle()
        assert children_watched.verdicts == [LEAK] * 2
        leak = children_watched.recorder.opened_leaks[0]
        assert leak.where.text == "kept.append(await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE))"
        assert leak.name == f"sleep (pid {kept[0].pid})"
        assert leak.owner.span is not None
        await ended(*kept)
        children_watched.runtime.tick()
        assert len(children_watched.recorder.resolved_leaks) == 2
        assert alive(children_watched) == []

    run(main(), loop)


@each_loop
def test_of_what_still_runs_one_of_its_line_is_shared_by_design(children_watched, loop):
    async def main():
        kept = []
        await in_a_request(leave(kept))
        children_watched.settle()
        assert len(alive(children_watched)) == 1
        await ended(*kept)

    run(main(), loop)
    assert children_watched.verdicts == []


@each_loop
@pytest.mark.parametrize("wait", [lambda child: child.wait(), lambda child: child.stdout.read()])
def test_one_that_a_task_waits_for_or_listens_to_is_in_use(children_watched, loop, wait):
    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept))
        waiting = [asyncio.create_task(wait(child)) for child in kept]
        await asyncio.sleep(0)
        children_watched.settle()
        assert children_watched.verdicts == []
        await ended(*kept)
        await asyncio.gather(*waiting)

    run(main(), loop)


def test_its_pipes_are_part_of_it(children_watched):
    async def main():
        kept = []
        for _ in range(2):
            await in_a_request(leave(kept))
        children_watched.settle()
        assert children_watched.verdicts == [LEAK] * 2  # and no file
        assert children_watched.recorder.opened_leaks[0].holds
        await ended(*kept)

    run(main())


@each_loop
def test_one_that_ended_and_left_its_pipe_to_a_child_of_its_own_is_still_held(children_watched, loop):
    async def orphan(kept):
        kept.append(await asyncio.create_subprocess_shell("sleep 60 & echo $!", stdout=PIPE))
        kept.append(int(await kept[0].stdout.readline()))

    async def main():
        kept = []
        await in_a_request(orphan(kept))
        child, grandchild = kept
        while child.returncode is None:  # noqa: ASYNC110  (nothing tells of it while the pipe is open)
            await asyncio.sleep(0.001)
        children_watched.settle()
        assert children_watched.verdicts == [LEAK]
        os.kill(grandchild, signal.SIGKILL)
        await child.communicate()
        assert alive(children_watched) == []

    run(main(), loop)


def forgotten(kept):
    """Collect what a closed loop left, which asyncio does not do in silence."""
    pid = kept.pop().pid
    os.kill(pid, signal.SIGKILL)
    for thread in threading.enumerate():  # which keeps what it tells of the end
        if thread.name.startswith(("asyncio-waitpid", "waitpid")):
            thread.join(10)
    settle()


@each_loop
@loud
def test_a_running_one_whose_loop_is_closed_is_a_leak(children_watched, loop):
    kept = []
    run(in_a_request(leave(kept)), loop)
    children_watched.settle()
    assert children_watched.verdicts == [("subprocess", "loop_closed")]
    forgotten(kept)


@each_loop
@loud
def test_a_daemon_in_a_session_of_its_own_is_left_alone(children_watched, loop):
    async def main():
        return await start(*SLEEP, start_new_session=True)

    kept = [run(main(), loop)]
    children_watched.settle()
    children_watched.runtime.finish(exiting=True)
    assert children_watched.verdicts == []
    forgotten(kept)


@loud
def test_a_transport_that_is_collected_unclosed_is_abandoned(children_watched):
    kept = []
    run(in_a_request(leave(kept)))
    forgotten(kept)
    children_watched.runtime.tick()
    assert children_watched.verdicts == [ABANDONED]


def test_instrument_and_uninstrument_restore_all(rig):
    names = ("create_subprocess_exec", "create_subprocess_shell")
    before = [getattr(module, name) for module in (asyncio, asyncio.subprocess) for name in names]
    SubprocessesInstrumentor().instrument()
    assert asyncio.create_subprocess_exec is not before[0]
    assert asyncio.create_subprocess_exec is asyncio.subprocess.create_subprocess_exec
    assert asyncio.iscoroutinefunction(asyncio.create_subprocess_exec)
    SubprocessesInstrumentor().uninstrument()
    assert [getattr(module, name) for module in (asyncio, asyncio.subprocess) for name in names] == before
    collect()

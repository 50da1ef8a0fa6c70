from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import pool as pools
from multiprocessing.process import BaseProcess

import pytest
from child_steps import ABANDONED, LEAK, alive, ended, request
from garbage import collect

from crawlo_otel_leaks.instrumentation.multiprocessing import MultiprocessingInstrumentor

pytest_plugins = ["watched_children"]
METHODS = ("fork", "spawn", "forkserver")
each_method = pytest.mark.parametrize("method", METHODS)


def start(method="fork", target=int, *args, **options):
    process = multiprocessing.get_context(method).Process(target=target, args=args, **options)
    process.start()
    return process


def ending(process):
    """Wait for a process's end without joining it; a fork server's child is none of ours."""
    multiprocessing.connection.wait([process.sentinel])
    return process


def killed(*processes):
    for process in processes:
        process.kill()
        process.join()


@each_method
def test_what_is_joined_is_never_told(children_watched, method):
    for _ in range(3):
        process = request(start, method)
        process.join()
        assert alive(children_watched) == []
        assert process.exitcode == 0
    children_watched.settle()
    assert children_watched.verdicts == []
    assert len([one for one in children_watched.recorder.released_handles if one.kind == "subprocess"]) == 3


def test_one_that_ended_and_nobody_joined_is_a_leak_at_its_line(children_watched):
    process = ended(request(start, name="import"))
    children_watched.settle()
    assert children_watched.verdicts == [LEAK]
    leak = children_watched.recorder.opened_leaks[0]
    assert leak.where.text == "process.start()"
    assert leak.name == f"import (pid {process.pid})"
    assert len(leak.holds) == 2
    multiprocessing.active_children()
    children_watched.runtime.tick()
    assert process.exitcode == 0
    assert len(children_watched.recorder.resolved_leaks) == 1


def test_one_that_the_next_start_reaps_in_time_is_none(children_watched):
    for _ in range(5):
        ended(request(start))
        children_watched.pass_time(9, steps=9)
    multiprocessing.active_children()
    children_watched.settle()
    assert children_watched.verdicts == []


def test_a_fork_servers_child_is_no_zombie_of_ours(children_watched):
    process = ending(request(start, "forkserver"))
    children_watched.settle()
    assert children_watched.verdicts == []
    process.join()


@each_method
def test_several_that_idle_after_their_requests_are_leaks(children_watched, method):
    kept = [request(start, method, time.sleep, 60, daemon=True) for _ in range(2)]
    for process in kept if method == "spawn" else ():  # starting costs time, which is use
        os.kill(process.pid, signal.SIGSTOP)
    children_watched.settle()
    assert set(children_watched.verdicts) == {LEAK}
    children_watched.runtime.finish(exiting=True)
    assert "process_exit" not in {reason for _, reason in children_watched.verdicts}
    killed(*kept)


def test_of_what_still_runs_one_of_its_line_is_shared_by_design(children_watched):
    process = request(start, "fork", time.sleep, 60)
    children_watched.settle()
    children_watched.runtime.finish(exiting=True)  # which joins it
    assert children_watched.verdicts == []
    killed(process)


def test_one_that_somebody_joins_is_in_use(children_watched):
    kept = [request(start, "fork", time.sleep, 60) for _ in range(2)]
    joining = [threading.Thread(target=process.join) for process in kept]
    for thread in joining:
        thread.start()
    handles = alive(children_watched)
    while not all(handle.waiting for handle in handles):
        pass
    children_watched.settle()
    assert children_watched.verdicts == []
    for process in kept:
        process.kill()
    for thread in joining:
        thread.join()


def test_one_that_another_asks_for_is_shared(children_watched):
    kept = [request(start, "fork", time.sleep, 60) for _ in range(2)]
    assert all(process.is_alive() for process in kept)
    children_watched.settle()
    assert children_watched.verdicts == []
    killed(*kept)


def test_a_pools_workers_are_the_pools_and_a_managers_its_own(children_watched):
    before = children_watched.runtime.tracker.ignored
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool, context.Manager() as manager, ProcessPoolExecutor(2, context) as executor:
        assert pool.map(abs, range(3)) == list(executor.map(abs, range(3))) == [0, 1, 2]
        assert manager.list([1])[0] == 1
        assert [handle.label() for handle in alive(children_watched)] == ["Pool", "ProcessPoolExecutor"]
        assert children_watched.runtime.tracker.ignored >= before + 4
    assert alive(children_watched) == []
    children_watched.settle()
    assert children_watched.verdicts == []


def a_pool():
    return multiprocessing.get_context("fork").Pool(1)


def an_executor():
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    executor.submit(abs, 1).result()
    return executor


WAYS = [(a_pool, lambda pool: pool.terminate()), (an_executor, lambda pool: pool.shutdown())]


@pytest.mark.parametrize(("way", "close"), WAYS)
def test_several_of_a_line_that_nobody_shut_down_are_leaks(children_watched, way, close):
    kept = [request(way) for _ in range(2)]
    children_watched.settle()
    assert children_watched.verdicts == [LEAK] * 2
    children_watched.runtime.finish(exiting=True)  # which shuts them down
    assert children_watched.verdicts == [LEAK] * 2
    for pool in kept:
        close(pool)
    children_watched.runtime.tick()
    assert len(children_watched.recorder.resolved_leaks) == 2


@pytest.mark.parametrize(("way", "close"), WAYS)
def test_one_of_a_line_is_shared_by_design(children_watched, way, close):
    pool = request(way)
    children_watched.settle()
    assert children_watched.verdicts == []
    close(pool)


@pytest.mark.parametrize(("way", "close"), WAYS)
def test_those_that_others_give_work_are_shared(children_watched, way, close):
    kept = [request(way) for _ in range(2)]
    for pool in kept:
        request(lambda pool=pool: list(pool.map(abs, [1])))
    children_watched.settle()
    assert children_watched.verdicts == []
    for pool in kept:
        close(pool)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_pool_that_is_dropped_running_is_abandoned(children_watched):
    pool = request(a_pool)
    terminate = pool._terminate
    del pool
    collect()
    children_watched.runtime.tick()
    assert children_watched.verdicts == [ABANDONED]
    terminate()


def test_an_executor_that_is_dropped_ends_by_itself(children_watched):
    request(lambda: an_executor() and None)
    collect()
    children_watched.settle()
    assert children_watched.verdicts == []
    assert alive(children_watched) == []


def test_a_pool_of_threads_is_none_of_processes(children_watched):
    with pools.ThreadPool(1):
        assert alive(children_watched) == []


def test_instrument_and_uninstrument_restore_all(rig):
    points = [(BaseProcess, "start"), (BaseProcess, "join"), (pools.Pool, "__init__"), (pools.Pool, "__del__")]
    before = [vars(owner)[name] for owner, name in points]
    MultiprocessingInstrumentor().instrument()
    assert vars(BaseProcess)["start"] is not before[0]
    MultiprocessingInstrumentor().uninstrument()
    assert [vars(owner)[name] for owner, name in points] == before
    assert rig.runtime.tracker.chores == rig.runtime.tracker.resets == rig.runtime.finders == []

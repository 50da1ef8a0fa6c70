from __future__ import annotations

import subprocess
import threading

from child_steps import LEAK, SLEEP, alive, ended, kill, request, zombie
from conftest import GRACE

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.instrumentation._runners import CROWD
from crawlo_otel_leaks.model import Reason

pytest_plugins = ["watched_children"]
PIPE = subprocess.PIPE


def test_of_what_still_runs_one_of_its_line_is_shared_by_design(children_watched):
    child = request(subprocess.Popen, SLEEP)
    children_watched.settle()
    assert children_watched.verdicts == []
    kill(child)


def test_several_that_idle_after_their_requests_are_leaks(children_watched):
    kept = [request(subprocess.Popen, SLEEP) for _ in range(2)]
    children_watched.settle()
    assert children_watched.verdicts == [LEAK] * 2
    kill(*kept)
    children_watched.runtime.tick()
    assert len(children_watched.recorder.resolved_leaks) == 2


def test_those_that_work_are_none_until_they_are_a_crowd(children_watched, monkeypatch):
    steps = iter(range(1_000_000))
    monkeypatch.setattr("crawlo_otel_leaks.instrumentation._children.processor_time", lambda pid: next(steps))
    kept = [request(subprocess.Popen, SLEEP) for _ in range(2)]
    children_watched.settle()
    assert children_watched.verdicts == []
    kept += [request(subprocess.Popen, SLEEP) for _ in range(CROWD)]
    children_watched.settle()
    assert set(children_watched.verdicts) == {LEAK}
    kill(*kept)


def test_processor_time_is_the_kernels(children_watched):
    from crawlo_otel_leaks.instrumentation._children import processor_time  # noqa: PLC0415

    with subprocess.Popen(
        "read line; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", shell=True, stdin=PIPE
    ) as child:
        before = processor_time(child.pid)
        child.communicate(b"\n")
    assert len(before) == 2
    child = zombie()
    assert processor_time(child.pid) == [b"0", b"0"]
    child.wait()
    assert processor_time(child.pid) is None


def test_one_that_somebody_waits_for_is_in_use(children_watched):
    kept = [request(subprocess.Popen, SLEEP) for _ in range(2)]
    waiting = [threading.Thread(target=child.wait) for child in kept]
    for thread in waiting:
        thread.start()
    handles = alive(children_watched)
    while not all(handle.waiting for handle in handles):
        pass
    children_watched.settle()
    assert children_watched.verdicts == []
    for child in kept:
        child.kill()
    for thread in waiting:
        thread.join()
    assert alive(children_watched) == []


def test_one_that_another_polls_is_shared(children_watched):
    kept = [request(subprocess.Popen, SLEEP) for _ in range(2)]
    for child in kept:
        child.poll()
    children_watched.settle()
    assert children_watched.verdicts == []
    kill(*kept)


def test_without_an_owner_a_zombies_age_accuses_it(children_watched):
    child = zombie()
    children_watched.pass_time(290, steps=100)
    assert children_watched.verdicts == []
    children_watched.pass_time(30, steps=10)
    assert children_watched.verdicts == [("subprocess", "held_too_long")]
    child.wait()


def test_age_accuses_none_that_runs_or_whose_turn_comes(children_watched):
    first, second = (subprocess.Popen(command) for command in (SLEEP, "true"))
    ended(second)
    turn = threading.Thread(target=first.wait)
    turn.start()
    one, _ = alive(children_watched)
    while not one.waiting:
        pass
    children_watched.pass_time(2_000, steps=200)
    assert [leak for leak in children_watched.verdicts if leak[1] != "slow"] == []
    first.kill()
    turn.join()
    second.wait()


def test_at_exit_what_runs_is_told_and_what_was_told_to_end_is_not(children_watched):
    running, *told = (subprocess.Popen(SLEEP) for _ in range(3))
    for child in told:
        child.terminate()
    once = zombie()
    children_watched.runtime.finish(exiting=True)
    assert [leak.name for leak in children_watched.recorder.opened_leaks] == [f"sleep (pid {running.pid})"]
    assert children_watched.verdicts == [("subprocess", "process_exit")]
    kill(running, *told, once)


def test_at_exit_several_zombies_of_a_line_are_told(children_watched):
    kept = [zombie() for _ in range(3)]
    children_watched.runtime.finish(exiting=True)
    assert children_watched.verdicts == [("subprocess", "process_exit")] * 3
    kill(*kept)


def test_a_scope_asks_for_its_children(children_watched):
    with scope("run"):
        kept = subprocess.Popen(SLEEP)
    children_watched.pass_time(2 * GRACE, steps=20)
    assert [leak.reason for leak in children_watched.recorder.opened_leaks] == [Reason.SCOPE_END]
    kill(kept)


def test_adopted_ones_may_outlive_anybody(children_watched):
    kept = [adopt(request(subprocess.Popen, SLEEP)) for _ in range(2)]
    children_watched.settle()
    assert children_watched.verdicts == []
    kill(*kept)

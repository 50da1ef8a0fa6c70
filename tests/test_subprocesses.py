from __future__ import annotations

import gc
import os
import signal
import subprocess
import weakref
from pathlib import Path

import pytest
from child_steps import ABANDONED, LEAK, SLEEP, WAITING, alive, ended, kill, request, zombie
from garbage import collect, hearing

from crawlo_otel_leaks.instrumentation.subprocesses import SubprocessesInstrumentor

pytest_plugins = ["watched_children"]
PIPE = subprocess.PIPE


def runs():
    subprocess.run(["true"], check=True)


def captures():
    assert subprocess.run(["cat"], input=b"some", capture_output=True, check=True).stdout == b"some"


def checks_output():
    assert subprocess.check_output("echo $0", shell=True, text=True).strip()


def is_a_context():
    with subprocess.Popen("cat", stdin=PIPE, stdout=PIPE) as child:
        child.stdin.write(b"some")


def communicates():
    child = subprocess.Popen("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, bufsize=1)
    assert child.communicate("some") == ("some", "")


def closes_after_waiting():
    child = subprocess.Popen("true", stdout=PIPE, bufsize=0)
    child.wait()
    child.stdout.close()


def polls():
    child = subprocess.Popen("true")
    while child.poll() is None:
        ended(child)


def is_killed():
    child = subprocess.Popen(SLEEP)
    child.kill()
    assert child.wait() == -signal.SIGKILL


def times_out():
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(SLEEP, timeout=0.001, capture_output=True, check=False)


def fails_to_start():
    with pytest.raises(FileNotFoundError):
        subprocess.Popen("no such program", stdout=PIPE)


def reads_a_shell():
    with os.popen("echo some") as pipe:
        assert pipe.read() == "some\n"


WAYS = [
    runs,
    captures,
    checks_output,
    is_a_context,
    communicates,
    closes_after_waiting,
    polls,
    is_killed,
    times_out,
    fails_to_start,
    reads_a_shell,
]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_waited_for_is_never_told(children_watched, way):
    for _ in range(3):
        request(way)
        assert alive(children_watched) == []
    children_watched.settle()
    assert children_watched.verdicts == []


def test_a_zombie_is_a_leak_at_its_line(children_watched):
    kept = [request(zombie)]
    children_watched.settle()
    assert children_watched.verdicts == [LEAK]
    leak = children_watched.recorder.opened_leaks[0]
    assert (leak.where.function, leak.where.text) == ("zombie", 'return ended(subprocess.Popen("false", **kwargs))')
    assert leak.name == f"false (pid {kept[0].pid})"
    assert leak.owner.span is not None
    assert kept[0].returncode is None
    assert kept[0].wait() == 1  # its exit status was left to us
    children_watched.runtime.tick()
    assert len(children_watched.recorder.resolved_leaks) == 1


def test_a_zombie_that_is_waited_for_within_the_grace_is_none(children_watched):
    for _ in range(3):
        child = request(zombie)
        children_watched.pass_time(9, steps=9)
        child.wait()
    children_watched.settle()
    assert children_watched.verdicts == []


def test_one_whose_pipes_stay_open_is_still_held_and_is_one_leak(children_watched):
    child = request(subprocess.Popen, ["cat"], stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE)
    assert child.wait() == 0
    (handle,) = alive(children_watched)
    assert set(handle.descriptors()) == {child.stdout.fileno(), child.stderr.fileno()}
    children_watched.settle()
    assert children_watched.verdicts == [LEAK]
    assert len(children_watched.recorder.opened_leaks[0].holds) == 2
    child.stdout.close()
    child.stderr.close()
    assert alive(children_watched) == []


@pytest.mark.parametrize("bufsize", [-1, 0])
def test_its_pipes_are_part_of_it(children_watched, bufsize):
    child = request(subprocess.Popen, ["cat"], stdin=PIPE, stdout=PIPE, bufsize=bufsize)
    (handle,) = alive(children_watched)
    files = [one for one in children_watched.held if one.kind == "file"]
    assert [file.part_of for file in files] == [handle, handle]
    children_watched.pass_time(1_000, steps=100)
    assert children_watched.verdicts == []
    child.communicate()
    assert children_watched.held == []


def test_what_is_dropped_unwaited_is_abandoned_as_cpython_says(children_watched):
    with pytest.warns(ResourceWarning, match="is still running"):
        request(lambda: subprocess.Popen(SLEEP) and None)
    children_watched.runtime.tick()
    assert children_watched.verdicts == [ABANDONED]
    kill(*subprocess._active)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_its_pipes_that_are_dropped_with_it_are_no_leaks_of_their_own(children_watched):
    request(lambda: subprocess.Popen("cat", stdin=PIPE, stdout=PIPE) and None)
    children_watched.settle()
    assert children_watched.verdicts == [ABANDONED]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_in_a_cycle_too(children_watched):
    def cycle():
        child = subprocess.Popen("true")
        child.itself = child

    request(cycle)
    collect()
    children_watched.runtime.tick()
    assert children_watched.verdicts == [ABANDONED]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_daemon_in_a_session_of_its_own_is_left_alone(children_watched):
    request(lambda: subprocess.Popen(SLEEP, start_new_session=True) and None)
    kept = [request(subprocess.Popen, SLEEP, start_new_session=True) for _ in range(3)]
    children_watched.settle()
    children_watched.runtime.finish(exiting=True)
    assert children_watched.verdicts == []
    kill(*kept, *subprocess._active)


def test_what_was_reaped_is_released_when_it_is_dropped(children_watched):
    request(lambda: subprocess.Popen("true", stdout=subprocess.DEVNULL).wait())
    assert children_watched.held == []
    children_watched.settle()
    assert children_watched.verdicts == []


def test_one_that_somebody_else_reaped_is_no_zombie(children_watched):
    child = request(subprocess.Popen, "true")
    os.waitpid(child.pid, 0)
    assert alive(children_watched) == []
    children_watched.settle()
    assert children_watched.verdicts == []
    child.wait()


def test_a_name_has_no_arguments(children_watched):
    commands = [
        (WAITING, {}, Path(WAITING[0]).name),
        ("exec sleep 60 # secret", {"shell": True}, "sh"),
        (b"/bin/cat", {"stdin": PIPE}, "cat"),
        ((word for word in SLEEP), {}, "process"),
    ]
    for command, options, name in commands:
        child = subprocess.Popen(command, **options)
        (handle,) = alive(children_watched)
        assert handle.label() == f"{name} (pid {child.pid})"
        child.kill()
        child.communicate()


def test_a_child_dies_as_soon_as_it_is_dropped(children_watched):
    child = subprocess.Popen("true")
    child.wait()
    ref = weakref.ref(child)
    children_watched.runtime.tick()
    gc.disable()
    del child
    try:
        assert ref() is None
    finally:
        gc.enable()


def test_warnings_name_the_line_that_they_always_named(children_watched):
    with hearing() as told:
        ended(subprocess.Popen("true"))
    (warning,) = told
    assert Path(warning.filename).name == "subprocess.py"
    assert warning.category is ResourceWarning


def test_instrument_and_uninstrument_restore_all(rig):
    names = ("__init__", "__del__", "wait", "poll", "communicate", "send_signal")
    before = [vars(subprocess.Popen)[name] for name in names]
    SubprocessesInstrumentor().instrument()
    assert vars(subprocess.Popen)["__init__"] is not before[0]
    SubprocessesInstrumentor().uninstrument()
    assert [vars(subprocess.Popen)[name] for name in names] == before
    assert rig.runtime.tracker.chores == rig.runtime.tracker.resets == rig.runtime.finders == []


def test_a_forked_child_forgets_its_parents_children(children_watched):
    child = request(subprocess.Popen, SLEEP)
    children_watched.runtime.tracker.clear()  # as in a child
    children_watched.settle()
    assert children_watched.held == []
    kill(child)

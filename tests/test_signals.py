"""SIGTERM: what was found gets out in bounded time, and whose handler it is stays so."""

from __future__ import annotations

import signal
import time

import programs
import pytest
import receiver as receivers
from receiver import HttpReceiver

from crawlo_otel_leaks import exits

DROPPED = ("dropped.txt", "abandoned")


@pytest.fixture
def receiver():
    with HttpReceiver() as started:
        yield started


OWN = "signal.signal(signal.SIGTERM, lambda *_: (print('own', flush=True), sys.exit(7)))"
WAIT = "print('ready', flush=True); time.sleep(30)"


def _terminate(process, after="ready"):
    assert process.stdout.readline().strip() == after
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    return programs.finish(process), time.monotonic() - began


def test_a_sigterm_handler_installed_after_us_stays_in_charge(tmp_path, receiver):
    done, _ = _terminate(
        programs.start(tmp_path, programs.source(f"drop()\n{OWN}\n{WAIT}\n"), receiver, **programs.NO_TICK)
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "own\n", "")
    assert programs.told(receiver) == [DROPPED]


def test_a_sigterm_handler_installed_before_us_stays_in_charge(tmp_path, receiver):
    source = programs.source(
        f"{OWN}\nfrom crawlo_otel_leaks.instrumentation.files import FilesInstrumentor\n"
        f"mine = signal.getsignal(signal.SIGTERM)\nFilesInstrumentor().instrument()\n"
        f"assert signal.getsignal(signal.SIGTERM) is mine\n{WAIT}\n"
    )
    done, _ = _terminate(programs.start(tmp_path, source, receiver, under_agent=False, **programs.NO_TICK))
    assert (done.returncode, done.stdout, done.stderr) == (7, "own\n", "")


def test_a_handler_that_calls_the_one_before_it_ends_as_it_would_by_default(tmp_path, receiver):
    body = f"old = signal.signal(signal.SIGTERM, lambda n, f: (print('own', flush=True), old(n, f)))\ndrop()\n{WAIT}\n"
    done, _ = _terminate(programs.start(tmp_path, programs.source(body), receiver, **programs.NO_TICK))
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "own\n")
    assert programs.told(receiver) == [DROPPED]


def test_a_signal_that_the_program_ignores_stays_ignored(tmp_path, receiver):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), 15); print('alive')\n"
    done = programs.run(tmp_path, programs.source(body), receiver)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")


def test_uninstrument_gives_sigterm_its_default_back(tmp_path):
    body = """
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor
FilesInstrumentor().instrument()
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
FilesInstrumentor().uninstrument()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
FilesInstrumentor().instrument()
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
"""
    done = programs.run(tmp_path, programs.source(body), under_agent=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def black_hole():
    with receivers.black_hole() as hole:
        yield hole


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_sigterm_waits_for_a_collector_that_does_not_answer_no_longer_than_the_limit(tmp_path, black_hole, protocol):
    black_hole.protocol = protocol
    body = f"with trace.get_tracer('app').start_as_current_span('s'): drop()\n{WAIT}\n"
    process = programs.start(tmp_path, programs.source(body), black_hole, REPORT="out.json", **programs.NO_TICK)
    done, took = _terminate(process)
    assert done.returncode == -signal.SIGTERM
    assert took < exits.FLUSH + 3
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]


def test_sigterm_gets_out_while_the_main_thread_holds_the_ticks_lock(tmp_path, receiver):
    body = f"""
from crawlo_otel_leaks import runtime
running = runtime.current()
drop()
running._ticking_since = time.monotonic()
with running._tick:
    {WAIT}
"""
    process = programs.start(tmp_path, programs.source(body), receiver, REPORT="out.json", **programs.NO_TICK)
    done, took = _terminate(process)
    assert done.returncode == -signal.SIGTERM
    assert took < exits.FLUSH + 3
    assert "an exporter hangs" in done.stderr
    assert (tmp_path / "out.json").exists()


def test_a_second_sigterm_does_not_cut_the_last_words_short(tmp_path, receiver):
    source = programs.source(programs.HANGING.format(seconds=0.5) + WAIT)
    process = programs.start(tmp_path, source, receiver, REPORT="out.json", **programs.NO_TICK)
    for line in ("ready\n", "hanging\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGTERM)
    assert programs.finish(process).returncode == -signal.SIGTERM
    assert programs.leaks(tmp_path / "out.json") == [("file", "abandoned", "dropped.txt")]
    assert programs.told(receiver) == [DROPPED]


def test_a_child_that_is_told_to_end_while_it_is_being_forked_ends(tmp_path):
    body = """
ends = set()
for _ in range(150):
    pid = os.fork()
    if not pid:
        signal.alarm(2)
        time.sleep(60)
    os.kill(pid, signal.SIGTERM)
    ends.add(os.WTERMSIG(os.waitpid(pid, 0)[1]))
assert ends == {signal.SIGTERM}, ends
"""
    done = programs.run(tmp_path, programs.source(body), timeout=30, **programs.NO_TICK)
    assert done.returncode == 0, done.stderr

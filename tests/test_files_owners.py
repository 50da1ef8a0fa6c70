"""Whose a file is: the process's, a thread's, a scope's; and what a clean program shows of itself."""

from __future__ import annotations

import concurrent.futures
import importlib
import logging
import logging.handlers
import subprocess
import sys
import threading

import pytest

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.settings import Settings

pytestmark = pytest.mark.usefixtures("instrumented")


def test_ten_thousand_clean_operations_report_nothing(rig, path):
    for _ in range(2_500):
        with path.open() as text, path.open("rb") as binary, path.open("rb", buffering=0) as raw:
            assert text.read() == binary.read().decode() == raw.read().decode()
        path.read_text()
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []
    mine = [handle for handle in rig.recorder.released_handles if handle.label() == str(path)]
    assert len(mine) == 10_000


def test_a_log_file_belongs_to_the_process_and_another_file_does_not(rig, tmp_path):
    with scope("run"):
        handlers = [
            logging.FileHandler(tmp_path / "a.log"),
            logging.handlers.RotatingFileHandler(tmp_path / "b.log"),
        ]
        other = (tmp_path / "other").open("w")
    rig.settle()
    assert [leak.name for leak in rig.recorder.opened_leaks] == [str(tmp_path / "other")]
    other.close()
    for handler in handlers:
        handler.close()


def test_a_file_opened_at_import_belongs_to_the_process(rig, path, tmp_path, monkeypatch):
    (tmp_path / "module_with_a_file.py").write_text(f"kept = [open({str(path)!r})]")
    monkeypatch.syspath_prepend(tmp_path)
    with scope("run"):
        module = importlib.import_module("module_with_a_file")
        own = path.open()
    rig.settle()
    assert [leak.where.file for leak in rig.recorder.opened_leaks] == [__file__]
    own.close()
    module.kept.pop().close()


def test_an_adopted_file_belongs_to_the_process(rig, path):
    with scope("run"):
        kept = [adopt(path.open()), adopt(path.open("rb")), adopt(path.open("rb", buffering=0))]
    rig.settle()
    assert rig.verdicts == []
    for file in kept:
        file.close()


def test_a_detached_file_can_be_passed_to_adopt(rig, path):
    text = path.open()
    with text.detach() as buffer:
        assert adopt(text) is text
        assert adopt(buffer) is buffer


def test_a_file_of_a_scope_that_ended_is_reported_and_resolved(rig, path):
    with scope("run"):
        file = path.open()
    rig.settle()
    assert rig.verdicts == [("file", "scope_end")]
    file.close()
    rig.runtime.tick()
    assert len(rig.recorder.resolved_leaks) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_pool_threads_file_names_its_thread_and_line(rig, path):
    def work():
        return path.open()

    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        pool.submit(work).result()
    rig.runtime.tick()
    (leak,) = rig.recorder.opened_leaks
    assert leak.reason.value == "abandoned"
    assert leak.owner.thread == "worker_0"
    assert leak.where.text == "return path.open()"


def test_threads_that_close_what_they_open_report_nothing(rig, path):
    def work():
        for _ in range(100):
            with path.open() as file:
                file.read()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.settle()
    assert rig.held == []
    assert rig.verdicts == []


def test_a_file_opened_in_a_span_is_reported_in_it(rig, path, tracer):
    def work():
        with tracer.start_as_current_span("request") as span:
            return path.open(), span

    file, span = work()
    rig.settle()
    (leak,) = rig.recorder.opened_leaks
    assert leak.owner.span == span.get_span_context()
    file.close()


def test_pipes_of_a_subprocess_that_are_closed_report_nothing(rig):
    with subprocess.Popen([sys.executable, "-c", "print(input())"], stdin=-1, stdout=-1) as process:
        assert len(rig.held) == 2
        assert process.communicate(b"hello\n")[0] == b"hello\n"
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []


class TestPathsHidden:
    @pytest.fixture
    def settings(self):
        return Settings(capture_paths=False)

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.parametrize("mode", ["r", "rb"])
    def test_only_the_suffix_of_a_path_is_told(self, rig, path, mode):
        path.open(mode)
        path.open("rb", buffering=0)
        rig.runtime.tick()
        assert [leak.name for leak in rig.recorder.opened_leaks] == ["*.txt", "*.txt"]

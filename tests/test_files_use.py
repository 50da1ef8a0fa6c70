"""In use or idle: what moves is slow, what rests is held too long, what cannot be seen is not accused alone."""

from __future__ import annotations

import os

import pytest
from conftest import GRACE, SCAN

from crawlo_otel_leaks.rules import HeldTooLong
from crawlo_otel_leaks.settings import Settings

THRESHOLD = 60.0


@pytest.fixture
def settings():
    return Settings(grace=GRACE, scan_interval=SCAN, thresholds={"file": THRESHOLD})


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "data.txt"
    made.write_text("some line\n" * 100_000)
    return made


pytestmark = pytest.mark.usefixtures("instrumented")


def opened(path, *arguments):
    """In a function that has returned: an opener still at work is in use whatever it does."""
    return open(path, *arguments)  # noqa: PTH123


IDLE = [("r",), ("rb",), ("rb", 0), ("w",), ("wb", 0), ("a",), ("r+",)]
USES = {
    "read text": (("r",), lambda file: file.read(20_000)),
    "read buffered": (("rb",), lambda file: file.read(20_000)),
    "read unbuffered": (("rb", 0), lambda file: file.read(10)),
    "write text, pending": (("w",), lambda file: file.write("pending")),
    "write buffered": (("wb",), lambda file: file.write(b"x" * 20_000)),
    "write unbuffered": (("wb", 0), lambda file: file.write(b"x")),
    "read and write": (("r+",), lambda file: file.write("x" * 20_000)),
    "seek": (("rb", 0), lambda file: file.seek(7, os.SEEK_CUR)),
}
use = pytest.mark.parametrize(("arguments", "step"), USES.values(), ids=USES)


@pytest.mark.parametrize("arguments", IDLE, ids=str)
def test_an_idle_file_is_held_too_long_past_its_threshold(rig, path, arguments):
    file = opened(path, *arguments)
    rig.pass_time(THRESHOLD - 1, 20)
    assert rig.verdicts == []
    rig.pass_time(20, 20)
    assert rig.verdicts == [("file", "held_too_long")]
    file.close()
    rig.runtime.tick()
    assert len(rig.recorder.resolved_leaks) == 1


@use
def test_a_file_in_use_is_slow_and_never_held_too_long(rig, path, arguments, step):
    file = opened(path, *arguments)
    for _ in range(40):
        step(file)
        rig.pass_time(5, 5)
    assert rig.verdicts == [("file", "slow")]
    file.close()


def test_a_reader_that_lives_on_what_is_buffered_is_not_accused(rig, path):
    path.write_text("short line\n" * 300)
    for arguments in (("r",), ("rb",)):
        file = opened(path, *arguments)
        for _ in range(200):
            file.readline()
            rig.pass_time(2, 2)
        file.close()
    assert "held_too_long" not in {reason for _, reason in rig.verdicts}


def test_a_writer_that_was_idle_and_goes_on_is_resolved(rig, path):
    file = opened(path, "w")
    rig.pass_time(3 * THRESHOLD, 180)
    assert rig.verdicts == [("file", "held_too_long")]
    for _ in range(30):
        file.write("again")
        rig.pass_time(5, 5)
    assert len(rig.recorder.resolved_leaks) == 1
    assert ("file", "held_too_long") not in rig.verdicts[1:]
    file.close()


@pytest.mark.parametrize(
    ("count", "expected"), [(HeldTooLong.crowd - 1, set()), (HeldTooLong.crowd, {"held_too_long"})]
)
def test_of_files_whose_use_cannot_be_seen_only_a_crowd_is_accused(rig, path, count, expected):
    files = [opened(path, "rb") for _ in range(count)]
    for file in files:
        file.read(10)
    rig.pass_time(5 * THRESHOLD, 300)
    assert {reason for _, reason in rig.verdicts} == expected
    for file in files:
        file.close()


def test_a_pipe_has_no_position_and_is_not_accused_alone(rig):
    ends = [opened(number, mode, 0) for number, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
    rig.pass_time(5 * THRESHOLD, 300)
    assert rig.verdicts == []
    for end in ends:
        end.close()


def test_looking_leaves_position_and_buffers_alone(rig, path):
    text, binary, raw, writer = (opened(path, *how) for how in (("r",), ("rb",), ("rb", 0), ("a",)))
    texts, bytes_read = [], []
    writer.write("pending")
    for _ in range(50):
        texts.append(text.readline())
        bytes_read.append((binary.readline(), raw.read(3)))
        rig.pass_time(5, 5)
    assert set(texts) == {"some line\n"}
    assert {line for line, _ in bytes_read} == {b"some line\n"}
    assert b"".join(piece for _, piece in bytes_read) == (b"some line\n" * 15)
    assert path.stat().st_size == 1_000_000
    for file in (text, binary, raw, writer):
        file.close()


def detach_all(file):
    """Return the raw file; the layers that were above it are kept by the caller."""
    return (file.detach() if hasattr(file, "buffer") else file).detach()


@pytest.mark.parametrize("spoil", [detach_all, lambda file: os.close(file.fileno())], ids=["detached", "closed below"])
def test_a_file_that_cannot_be_looked_at_any_more_troubles_nobody(rig, path, spoil):
    files = [opened(path, mode) for mode in ("r", "rb")]
    rig.pass_time(30, 30)
    kept = [spoil(file) for file in files]
    rig.pass_time(3 * THRESHOLD, 180)
    assert rig.verdicts == []
    for file in (*kept, *files):
        try:
            file.close()
        except (AttributeError, OSError, ValueError):
            continue

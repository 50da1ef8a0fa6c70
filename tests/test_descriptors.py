"""Too many open files: the error says who holds them, in a process of its own with few to give."""

from __future__ import annotations

import programs
import pytest

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

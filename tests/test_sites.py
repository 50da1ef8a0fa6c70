from __future__ import annotations

import hashlib
import logging
import sys
import textwrap

import pytest

from crawlo_otel_leaks import sites
from crawlo_otel_leaks.sites import EVERY, FIRST, NEAR, Sites


def here(interner, depth=0):
    if depth:
        return here(interner, depth - 1)
    return interner.at(sys._getframe())


def run(source, name, **known):
    """Execute source as if it stood in a file of the user's."""
    namespace = {"sys": sys, "__name__": "app", **known}
    exec(compile(textwrap.dedent(source), name, "exec"), namespace)
    return namespace


TAKE = """
def take(interner):
    return interner.at(sys._getframe())

def serve(interner):
    return take(interner)
"""


def fingerprint_of(source, name="/srv/app/views.py"):
    site, _ = run(source, name)["serve"](Sites())
    return sites.fingerprint("file", site)


def test_the_same_place_is_the_same_site():
    interner = Sites()
    first, second = (here(interner)[0] for _ in range(2))
    other = here(interner)[0]
    assert first is second
    assert other is not first


def test_a_site_names_the_nearest_frame_first():
    site, stack = here(Sites())
    frames = sites.resolve(stack)
    assert frames[0].function.endswith("here")
    assert frames[1].function.endswith("test_a_site_names_the_nearest_frame_first")
    assert frames[1].file == __file__
    assert frames[1].text == "site, stack = here(Sites())"
    assert len(site.frames) == NEAR


def test_the_stack_is_as_deep_as_the_setting():
    _, stack = here(Sites(depth=5), depth=30)
    assert len(stack) == 5


def test_whole_stacks_are_taken_of_the_first_then_of_one_in_many():
    interner = Sites()
    taken = [here(interner)[1] is not None for _ in range(2 * EVERY)]
    assert taken[:FIRST] == [True] * FIRST
    assert sum(taken[FIRST:]) == 2


def test_full_level_takes_every_stack():
    interner = Sites(full=True)
    assert all(here(interner)[1] is not None for _ in range(20))
    assert interner.rate == 1.0


def test_a_leaked_site_is_watched_whole_ever_after():
    interner = Sites()

    def take():
        return here(interner)

    for _ in range(FIRST + 1):
        site, stack = take()
    assert stack is None
    site.leaked = True
    assert take()[1] is not None


def test_plumbing_is_no_user_frame():
    interner = Sites()
    seen = []
    logger = logging.getLogger("through the standard library")
    logger.addFilter(lambda _record: bool(seen.append(interner.at(sys._getframe()))))
    logger.warning("through the standard library")
    functions = [frame.function.rpartition(".")[2] for frame in sites.resolve(seen[0][1])]
    assert functions[:2] == ["<lambda>", "test_plumbing_is_no_user_frame"]


def test_a_comprehension_is_no_frame_on_any_python():
    interner = Sites()
    ((_, stack),) = [interner.at(sys._getframe()) for _ in range(1)]
    assert [f.function.rpartition(".")[2] for f in sites.resolve(stack)][:1] == [
        "test_a_comprehension_is_no_frame_on_any_python",
    ]


def test_a_hidden_library_is_plumbing_and_its_caller_the_site():
    interner = Sites()
    library = run(TAKE, "/venv/lib/python3.11/site-packages/somelib/pool.py")["serve"]
    user = "def go(serve, interner):\n    return serve(interner)\n"
    go = run(user, "/srv/app/views.py")["go"]
    _, stack = go(library, interner)
    assert sites.resolve(stack)[0].file.endswith("somelib/pool.py")
    interner.hide("somelib")
    _, stack = go(library, interner)
    assert sites.resolve(stack)[0].file == "/srv/app/views.py"


def test_what_is_logged_or_imported_belongs_to_the_process():
    interner = Sites()
    module = "taken = interner.at(sys._getframe())[0]"
    assert run(module, "/srv/app/geo.py", interner=interner)["taken"].process
    assert not run(module, "/srv/app/run.py", interner=interner, __name__="__main__")["taken"].process
    assert not run(TAKE, "/srv/app/views.py")["serve"](interner)[0].process
    handler = "def emit(interner):\n    return interner.at(sys._getframe())\n"
    assert run(handler, "/x/logging/handlers.py", __name__="logging.handlers")["emit"](interner)[0].process


def test_fingerprints_survive_line_shifts_and_other_roots(monkeypatch):
    monkeypatch.setattr(sites.sys, "path", ["/srv", "/home/me/src"])
    sites.portable.cache_clear()
    base = fingerprint_of(TAKE)
    assert len(base) == 16
    assert base == fingerprint_of("# a new comment\n\n\n" + TAKE)
    assert base == fingerprint_of(TAKE, "/home/me/src/app/views.py")
    assert base != fingerprint_of(TAKE, "/srv/app/models.py")
    assert base != fingerprint_of(TAKE.replace("def take", "def fetch").replace("take(", "fetch("))
    sites.portable.cache_clear()


def test_fingerprints_tell_kinds_and_lines_apart(tmp_path):
    source = "def one(interner):\n    return [interner.at(sys._getframe()),\n        interner.at(sys._getframe())  ]\n"
    path = tmp_path / "views.py"
    path.write_text(source)
    (first, _), (second, _) = run(source, str(path))["one"](Sites())
    assert first is not second
    assert sites.fingerprint("file", first) != sites.fingerprint("file", second)


def test_fingerprint_is_the_documented_hash(monkeypatch):
    monkeypatch.setattr(sites.sys, "path", ["/srv"])
    sites.portable.cache_clear()
    site, _ = run("def take(interner):\n    return interner.at(sys._getframe())\n", "/srv/v.py")["take"](Sites())
    parts = ["file"]
    for frame, (code, _) in zip(sites.resolve(site.frames), site.frames, strict=True):
        parts += [sites.portable(frame.file), code.co_name, frame.text]
    assert sites.fingerprint("file", site) == hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    sites.portable.cache_clear()


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(sites, "LIMIT", 8)
    interner = Sites()
    for number in range(40):
        run(TAKE, f"/srv/app/v{number}.py")["serve"](interner)
    assert len(interner) <= 8
    assert len(interner._codes) <= 8 + NEAR


def test_a_stack_without_user_frames_names_what_is_there():
    interner = Sites()
    interner.hide("everything")
    take = run("def take(interner):\n    return interner.at(sys._getframe())\n", "/x/site-packages/everything/a.py")
    frame = sys._getframe()
    site = interner._new((), frame)
    assert site.frames
    assert take["take"](interner)[0].frames


@pytest.mark.parametrize("name", ["<string>", "<stdin>"])
def test_code_without_a_file_keeps_its_name(name):
    site, _ = run(TAKE, name)["serve"](Sites())
    assert sites.resolve(site.frames)[0].file == name


def test_the_same_stack_noted_again_is_one_in_memory_another_above_it_is_its_own():
    def steps(*functions):
        return tuple((function.__code__, 2) for function in functions)

    interner, near = Sites(), (here, run, fingerprint_of)
    site, first = interner.of(steps(*near, steps))
    again, same = interner.of(steps(*near, steps))
    assert (again, same) == (site, first)
    assert same is first
    assert interner.of(steps(*near, here)) == (site, steps(*near, here))

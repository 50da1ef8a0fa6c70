"""aiofiles and anyio: the file is the asker's, whoever's thread opened it."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import warnings

import aiofiles
import aiofiles.tempfile
import anyio
import pytest
from garbage import collect

from crawlo_otel_leaks import adopt, scope
from crawlo_otel_leaks.instrumentation.files import FilesInstrumentor


@pytest.fixture(params=["imported before", "imported after"])
def order(request, monkeypatch, rig, path):
    """Instrument with the libraries imported already, or let them be imported anew afterwards."""
    instrumentor = FilesInstrumentor()
    if request.param == "imported after":
        for name in [name for name in sys.modules if name.partition(".")[0] == "aiofiles"]:
            monkeypatch.delitem(sys.modules, name)
        instrumentor.instrument()
        monkeypatch.setitem(globals(), "aiofiles", importlib.import_module("aiofiles"))
        importlib.import_module("aiofiles.tempfile")
    else:
        instrumentor.instrument()
    yield request.param
    instrumentor.uninstrument()


async def _anyio_temporary(path):
    return await anyio.TemporaryFile().__aenter__()


async def _anyio_named(path):
    return await anyio.NamedTemporaryFile(dir=path.parent).__aenter__()


WAYS = {
    "aiofiles text": lambda path: aiofiles.open(path),  # noqa: PLW0108  (looked up when called: it may be imported anew)
    "aiofiles binary": lambda path: aiofiles.open(path, "rb"),
    "aiofiles write": lambda path: aiofiles.open(path, "w"),
    "aiofiles unbuffered": lambda path: aiofiles.open(path, "rb", buffering=0),
    "aiofiles TemporaryFile": lambda path: aiofiles.tempfile.TemporaryFile(),
    "aiofiles NamedTemporaryFile": lambda path: aiofiles.tempfile.NamedTemporaryFile(dir=path.parent),
    "anyio text": lambda path: anyio.open_file(path, "r"),
    "anyio binary": lambda path: anyio.open_file(path, "rb"),
    "anyio unbuffered": lambda path: anyio.open_file(path, "rb", buffering=0),
    "anyio.Path": lambda path: anyio.Path(path).open(),
    "anyio TemporaryFile": _anyio_temporary,
    "anyio NamedTemporaryFile": _anyio_named,
}
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


async def close(file):
    await (file.aclose() if hasattr(file, "aclose") else file.close())


@way
def test_an_opened_file_is_the_asking_tasks_and_lines_and_ends_with_its_close(rig, path, order, tracer, way):
    async def main():
        with tracer.start_as_current_span("asker") as span:
            file = await way(path)
        (handle,) = rig.held
        assert handle.site.frames[0][0] is way.__code__
        assert handle.span is span
        assert handle.task() is asyncio.current_task()
        assert handle.thread.ident == threading.get_ident()
        await close(file)

    asyncio.run(main())
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []


@way
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_dropped_file_is_abandoned_by_who_asked(rig, path, order, way):
    async def main():
        await way(path)

    asyncio.run(main())
    for worker in threading.enumerate():
        if worker.name.startswith("AnyIO"):
            worker.join(10)  # told to end, it has what it returned last until it does
    collect()
    rig.runtime.tick()
    assert rig.verdicts == [("file", "abandoned")]
    assert rig.recorder.opened_leaks[0].owner.task.startswith("Task-")
    assert rig.recorder.opened_leaks[0].where.file == __file__


@way
def test_what_a_scope_leaves_open_is_reported_to_it(rig, path, order, way):
    kept = []

    async def main():
        async with scope("run"):
            kept.append(await way(path))
        rig.settle()
        assert rig.verdicts == [("file", "scope_end")]
        await close(kept.pop())

    asyncio.run(main())


def test_an_adopted_async_file_belongs_to_the_process(rig, path, order):
    async def main():
        async with scope("run"):
            files = [adopt(await aiofiles.open(path)), adopt(await anyio.open_file(path))]
        rig.settle()
        assert rig.verdicts == []
        for file in files:
            await close(file)

    asyncio.run(main())


def test_context_managers_and_whole_files_leave_nothing(rig, path, order):
    async def main():
        async with aiofiles.open(path) as file:
            assert await file.read() == "one\ntwo\n"
        async with aiofiles.tempfile.SpooledTemporaryFile(max_size=1) as file:
            await file.write(b"rolls over")
        async with await anyio.open_file(path) as file:
            assert [line async for line in file] == ["one\n", "two\n"]
        async with anyio.TemporaryFile() as file:
            await file.write(b"x")
        assert await anyio.Path(path).read_text() == "one\ntwo\n"
        assert [line async for line in await aiofiles.open(path)] == ["one\n", "two\n"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(main())
        collect()
    rig.settle()
    assert rig.held == []
    assert rig.verdicts == [("file", "abandoned")], "the last line of main never closes its file"


def test_a_failed_open_leaves_nothing(rig, path, order):
    async def main():
        for opening in (aiofiles.open(path / "missing"), anyio.open_file(path / "missing")):
            with pytest.raises(NotADirectoryError):
                await opening

    asyncio.run(main())
    assert rig.held == []
    rig.settle()
    assert rig.verdicts == []


def test_an_open_that_is_never_awaited_warns_under_its_own_name(rig, path, order):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        forgotten = anyio.open_file(path)
        del forgotten
        told = {str(one.message) for one in caught}
        caught.clear()  # each keeps its coroutine
    assert told == {"coroutine 'open_file' was never awaited"}
    assert rig.held == []


def test_uninstrumented_libraries_are_as_before(path):
    before = aiofiles.threadpool._open, aiofiles.threadpool.sync_open, anyio.open_file, anyio.Path.open
    FilesInstrumentor().instrument()
    FilesInstrumentor().uninstrument()
    after = aiofiles.threadpool._open, aiofiles.threadpool.sync_open, anyio.open_file, anyio.Path.open
    assert all(one is other for one, other in zip(before, after, strict=True))

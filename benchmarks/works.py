"""What is measured: works of the standard library and of aiohttp; a call is one round, and returns seconds."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Work:
    """Repeats a step, and takes the time of one; on no event loop."""

    loop: asyncio.AbstractEventLoop | None = None
    engine: Any = None
    """What SQLAlchemy's own instrumentation must be given."""
    part: float = 1
    """Of its rounds, what the next one does: under what slows it down tenfold, a tenth is enough."""

    def __init__(self, loops: int, step: Callable[[], object]) -> None:
        self.whole = loops
        """How often the step is done in a whole round."""
        self._step = step

    def __call__(self) -> float:
        """Run one round."""
        step = self._step
        start = time.perf_counter()
        for _ in range(self.loops):
            step()
        return (time.perf_counter() - start) / self.loops

    def close(self) -> None:
        """Leave nothing open: the next work's warnings are not to tell of this one."""

    @property
    def loops(self) -> int:
        """How often the step is done in the next round."""
        return max(1, int(self.whole * self.part))


class LoopWork(Work):
    """Awaits a step again and again, on a loop that lives as long as the client it uses."""

    def __init__(self, loops: int) -> None:
        super().__init__(loops, lambda: None)
        self.shut: Callable[[], Awaitable[Any]] | None = None
        """Closes what `open` opened."""
        self.loop = asyncio.new_event_loop()
        self.ask: Callable[[], Awaitable[Any]] = self.loop.run_until_complete(self.open())

    async def open(self) -> Callable[[], Awaitable[Any]]:
        """Return the step."""
        raise NotImplementedError

    async def repeat(self) -> float:
        """Await the step so often; return seconds for one."""
        ask = self.ask
        start = time.perf_counter()
        for _ in range(self.loops):
            await ask()
        return (time.perf_counter() - start) / self.loops

    def __call__(self) -> float:
        """Run one round."""
        assert self.loop is not None
        return self.loop.run_until_complete(self.repeat())

    def close(self) -> None:
        """Close the client, and then the loop."""
        assert self.loop is not None
        if self.shut is not None:
            self.loop.run_until_complete(self.shut())
        self.loop.close()


def files(loops: int) -> Work:
    """Open, read and close a small file."""
    path = str(Path(tempfile.mkdtemp(), "small.txt"))
    Path(path).write_text("x" * 100, encoding="ascii")

    def step() -> None:
        with open(path, encoding="ascii") as file:  # noqa: PTH123  (builtins.open is what is measured)
            file.read()

    return Work(loops, step)


def threads(loops: int) -> Work:
    """Start and join threads that do nothing."""

    def step() -> None:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    return Work(loops, step)


class Tasks(LoopWork):
    """Tasks that do nothing, made and awaited one after the other."""

    async def open(self) -> Callable[[], Awaitable[Any]]:
        """Return the step."""
        return lambda: asyncio.create_task(_nothing())


async def _nothing() -> None:
    pass


class Gets(LoopWork):
    """GETs of a local aiohttp server, a session for each round."""

    async def open(self) -> Callable[[], Awaitable[Any]]:
        """Start the server."""
        import aiohttp  # noqa: PLC0415  (optional)
        from aiohttp import web  # noqa: PLC0415

        self._aiohttp = aiohttp

        async def hello(_request: object) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.add_routes([web.get("/", hello)])
        runner = web.AppRunner(app)
        await runner.setup()
        self.shut = runner.cleanup
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        return self._get

    async def _get(self) -> None:
        async with self._session.get(self._url) as response:
            await response.read()

    async def repeat(self) -> float:
        """Await the step so often, on a session of its own: instrumentations see sessions when they are made."""
        async with self._aiohttp.ClientSession() as self._session:
            return await super().repeat()

"""The program that `crawlo-leaks check` runs under opentelemetry-instrument: a spider, again and again."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import pkgutil
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crawlo_otel_leaks import runtime
from crawlo_otel_leaks.cli.deadline import in_time
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.cli.hanging import end_in_time
from crawlo_otel_leaks.cli.progress import Progress

if TYPE_CHECKING:
    from types import ModuleType

    from crawlo_otel_leaks.runtime import Runtime

PATIENCE: Final = 2
"""A run that is not over with the duration is given so many times what the longest before it took."""
_QUIET: Final = {"LOG_LEVEL": "WARNING", "STATS_DUMP": False}
_ALONE: Final = {"RUN_MODE": "standalone", "QUEUE_TYPE": "memory"}
"""Where there is no project: the automatic mode looks for a Redis, for seconds."""


class Task(NamedTuple):
    """What to run. Times are seconds."""

    module: str
    spider: str
    duration: float
    interval: float
    runs: int | None
    settings: dict[str, Any]


class Crawls:
    """The runs, one after the other in one event loop, as a service would have them."""

    def __init__(self, task: Task, running: Runtime) -> None:
        self._task, self._running = task, running
        self._spider = _spider(task.module, task.spider)
        self._settings = _settings(task.settings)
        self._began = time.monotonic()
        self._longest = 0.0
        self.done = 0
        self.interrupted = False

    async def run(self) -> None:
        """Run until the duration is over, then wait until every verdict is known."""
        while not self.interrupted and self._left() > 0 and self.done != self._task.runs:
            began = time.monotonic()
            await self._once()
            self._longest = max(self._longest, time.monotonic() - began)
            self.done += 1
        end = time.monotonic() + self._running.settings.grace + 2 * self._running.settings.scan_interval
        while not self.interrupted and self._holds() and time.monotonic() < end:  # noqa: ASYNC110  (see below)
            await asyncio.sleep(0.1)  # what is waited for is the program's own doing, of which nobody tells
        await asyncio.to_thread(self._running.tick)

    def _left(self) -> float:
        return self._began + self._task.duration - time.monotonic()

    def _holds(self) -> bool:
        """Whether any run holds anything: a verdict is still to come."""
        return any(self._running.runs.open(self._running.tracker.held()).values())

    async def _once(self) -> None:
        from crawlo.crawler import CrawlerProcess  # noqa: PLC0415  (optional)

        process = CrawlerProcess(settings=self._settings, spider_modules=[self._task.module])
        limit = self._left() if not self.done else max(self._left(), PATIENCE * self._longest)
        try:
            await in_time(process.crawl(self._spider), limit)
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.interrupted = True
        except Exception as error:  # noqa: BLE001  (a run that fails is a run; what it leaks is told)
            over = isinstance(error, asyncio.TimeoutError) and self._left() <= 0
            told = f"{type(error).__name__}: {error}"
            _say("a run took longer than the duration, and was cancelled" if over else f"a run failed: {told}")
        event = getattr(process, "_shutdown_event", None)  # Crawlo takes Ctrl-C itself, and ends the run
        self.interrupted = self.interrupted or bool(event and event.is_set())


def _settings(chosen: dict[str, Any]) -> Any:  # noqa: ANN401  (Crawlo's)
    """Return the project's settings, if there is one, with what was chosen."""
    try:
        from crawlo.core.application import initialize_framework  # noqa: PLC0415  (optional)
    except ImportError:
        from crawlo.initialization import initialize_framework  # noqa: PLC0415  (until 1.5)
    return initialize_framework({**_QUIET, **({} if _project() else _ALONE), **chosen})


def _project() -> bool:
    from crawlo import project  # noqa: PLC0415  (optional)

    find = getattr(project, "_find_project_root", None)
    return find is None or bool(find())


def _spider(name: str, wanted: str) -> type:
    """Return the spider class of that name, of the class or of the spider; raise UsageError naming those there are."""
    module = _import(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
        _import(found.name)
    from crawlo.spider import get_global_spider_registry  # noqa: PLC0415  (optional)

    spiders = {
        key: one
        for key, one in get_global_spider_registry().items()
        if inspect.isclass(one) and (one.__module__ == name or one.__module__.startswith(f"{name}."))
    }
    for key, one in spiders.items():
        if wanted in (key, one.__name__):
            return one
    there = ", ".join(f"{key} ({one.__name__})" for key, one in sorted(spiders.items())) or "none at all"
    raise UsageError(f"found no spider {wanted!r} in {name}; there are: {there}")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"found no module {error.name!r}; expected one that Python finds from here") from error
        raise UsageError(f"module {name} needs {error.name!r}, which is not installed") from error
    except Exception as error:
        raise UsageError(f"module {name} cannot be imported: {type(error).__name__}: {error}") from error


def _say(text: str) -> None:
    print(f"crawlo-leaks: {text}", file=sys.stderr, flush=True)  # noqa: T201  (a command's own voice)


def main(argv: list[str]) -> int:
    """Run what the JSON in `argv` says; return 0, or 2 where it cannot be run."""
    task = Task(**json.loads(argv[0]))
    sys.argv[:] = [f"crawlo-leaks check {task.module} {task.spider}"]  # what the report calls the program
    running = runtime.current()
    if running is None:
        _say("nothing is watched; expected CRAWLO_OTEL_LEAKS_ENABLED and CRAWLO_OTEL_LEAKS_LEVEL not off")
        return 2
    try:
        crawls = Crawls(task, running)
    except UsageError as error:
        _say(str(error))
        return 2
    running.vitals.every(task.interval)
    with Progress(crawls, task.duration, task.interval, running):
        try:
            asyncio.run(crawls.run())
        except KeyboardInterrupt:
            crawls.interrupted = True
    end_in_time(running)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

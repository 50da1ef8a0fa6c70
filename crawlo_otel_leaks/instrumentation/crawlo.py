"""Crawlo: every crawl a run, with a span, a scope and a verdict of its own."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, trace

from crawlo_otel_leaks import runs
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point
from crawlo_otel_leaks.owner import current_scope, running_task, this_task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Token

    from crawlo_otel_leaks.model import Scope
    from crawlo_otel_leaks.runs import Run
    from crawlo_otel_leaks.runtime import Runtime

    Wrapped = Callable[..., Any]
    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

PAGES: Final = "response_received_count"
"""The statistic that counts pages; in 1.4 twice, if its LogStats is on: ..."""
_BY_CODE: Final = ("response_status_code/success_count", "response_status_code/error_count")
"""... these, where they are kept, count once."""
_GROUP: Final = "run"


class Crawls:
    """What stands in front of Crawlo's methods."""

    def __init__(self, running: Runtime) -> None:
        self._running = running

    def crawl(self, wrapped: Wrapped, crawler: Any, args: Arguments, kwargs: Keywords) -> Coroutine[Any, Any, Any]:
        """Crawler.crawl: one run of one spider, from beginning to end, its cleaning up included."""
        crawl = self._crawl(wrapped, crawler, args, kwargs)
        for name in ("__name__", "__qualname__"):  # what a task shows of it
            setattr(crawl, name, getattr(wrapped, name))
        return crawl

    async def _crawl(self, wrapped: Wrapped, crawler: Any, args: Arguments, kwargs: Keywords) -> Any:
        entered = self._begin(crawler)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            self._end(entered, error)
            raise
        self._end(entered, None)
        return result

    def clean_up(self, wrapped: Wrapped, crawler: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Crawler._cleanup: the last moment at which the pages are known; after it, all its fields are None."""
        del crawler
        run = self._running.runs.of(current_scope.get())
        if run is not None and run.counter is not None:
            try:
                run.count_pages()
            except Exception as error:  # noqa: BLE001  (it cleans up in any case)
                self._running.tracker.fail("crawl pages", error)
        return wrapped(*args, **kwargs)

    def _begin(self, crawler: Any) -> _Entered | None:
        try:
            run = self._running.runs.begin(_name(crawler))
            run.counter = _counter(weakref.ref(crawler))
            return _Entered(run)
        except Exception as error:  # noqa: BLE001  (the spider runs in any case)
            self._running.tracker.fail("crawl begin", error)
            return None

    def _end(self, entered: _Entered | None, error: BaseException | None) -> None:
        if entered is None:
            return
        if isinstance(error, GeneratorExit) or this_task() != entered.task:
            # Closed by the collector: in a finalizer nothing may be told, nor another's context be changed.
            self._running.runs.dropped.append(entered.run)
            return
        try:
            entered.leave()
            self._running.runs.end(entered.run, _outcome(error), type(error).__qualname__ if error else None)
        except Exception as failure:  # noqa: BLE001  (the spider's own end is what counts)
            self._running.tracker.fail("crawl end", failure)


class _Entered:
    """The run as the current scope and span of the task that crawls, and of all that it starts."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.task = this_task()
        self._scope: Token[Scope | None] = current_scope.set(run.scope)
        self._span = context.attach(trace.set_span_in_context(run.span)) if run.span else None

    def leave(self) -> None:
        """Return to what was current before."""
        if self._span is not None:
            context.detach(self._span)
        current_scope.reset(self._scope)


def _outcome(error: BaseException | None) -> str:
    if error is None:
        # Crawlo may keep a cancellation to itself; from Python 3.11 on, its task knows.
        task = running_task()
        return runs.CANCELLED if task is not None and getattr(task, "cancelling", int)() else runs.FINISHED
    return runs.FAILED if isinstance(error, Exception) else runs.CANCELLED


def _name(crawler: Any) -> str:
    spider = getattr(crawler, "_spider_cls", None)
    return str(getattr(spider, "name", None) or getattr(spider, "__name__", "unknown"))


def _counter(ref: weakref.ref[Any]) -> Callable[[], int | None]:
    def count() -> int | None:
        stats = getattr(ref(), "stats", None)
        # Statistics kept in Redis are asked for on the network, which is the program's to decide.
        if stats is None or hasattr(getattr(stats, "backend", None), "_redis"):
            return None
        received, *by_code = (int(stats.get_value(key, 0) or 0) for key in (PAGES, *_BY_CODE))
        return min(received, sum(by_code)) if any(by_code) else received

    return count


class CrawloInstrumentor(Instrumentor):
    """Watches Crawlo's spider runs. Its frames are no plumbing: what it leaks is its own."""

    requires = "crawlo>=1.4.9"

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        crawls = Crawls(running)
        return [
            Point("crawlo.crawler", "Crawler.crawl", crawls.crawl, _GROUP),
            Point("crawlo.crawler", "Crawler._cleanup", crawls.clean_up, optional=True),
        ]

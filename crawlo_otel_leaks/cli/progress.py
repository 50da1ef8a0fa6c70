"""How far `crawlo-leaks check` is, with live figures: a bar on a terminal, else a line at each interval."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from rich import progress
from rich.console import Console

from crawlo_otel_leaks.runs import footprint

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from crawlo_otel_leaks.runtime import Runtime

REFRESH: Final = 0.5
"""Seconds between two looks on a terminal."""
_MEGA: Final = 1_000_000


class _Runs(Protocol):
    done: int


class Progress:
    """Shows figures on stderr, from a thread of its own, until it is left."""

    def __init__(self, runs: _Runs, duration: float, interval: float, running: Runtime) -> None:
        self._runs, self._duration, self._interval, self._running = runs, duration, interval, running
        self._console = Console(stderr=True)
        self._began = time.monotonic()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._show, name="crawlo-leaks-progress", daemon=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and leave the last figures on the screen."""
        self._left.set()
        self._thread.join()

    def _show(self) -> None:
        if self._console.is_terminal:
            self._draw()
        else:
            while not self._left.wait(self._interval):
                self._print()
            self._print()

    def _draw(self) -> None:
        columns = (progress.BarColumn(10), progress.TextColumn("{task.description}"))
        with progress.Progress(*columns, console=self._console, auto_refresh=False) as bar:
            task = bar.add_task(self._line(), total=self._duration)
            while not self._left.wait(REFRESH):
                bar.update(task, description=self._line(), completed=self._elapsed(), refresh=True)
            bar.update(task, description=self._line(), completed=self._duration, refresh=True)

    def _print(self) -> None:
        self._console.print(self._line(), highlight=False, markup=False, soft_wrap=True)

    def _line(self) -> str:
        return f"{self._elapsed():.0f} s  {self.figures()}"

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def figures(self) -> str:
        """Return the figures as of now."""
        running, now = self._running, footprint()
        for run in running.runs.active():
            run.count_pages()
        pages = sum(run.pages or 0 for run in list(running.runs.kept))
        held = sum(sum(kinds.values()) for kinds in running.runs.open(running.tracker.held()).values())
        findings = list(running.detector.findings.by_key.values())
        leaks = sum(len(finding.open_leaks) for finding in findings if finding.reason.is_leak)
        told = (
            ("runs", self._runs.done),
            ("pages", pages),
            ("MB", round((now.rss or 0) / _MEGA)),
            ("fds", now.fds),
            ("tasks", now.tasks),
            ("open", held),
            ("leaks", leaks),
        )
        return "  ".join(f"{name} {value}" for name, value in told if value is not None)

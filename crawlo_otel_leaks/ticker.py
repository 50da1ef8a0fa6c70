"""The detector's thread: it ticks at intervals until it is stopped, and a tick that fails is not its last."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

JOIN: Final = 2.0
"""Seconds that a stop waits for a tick that is under way."""


class Ticker:
    """Calls `tick` every `pause()` seconds on a daemon thread. `start` and `stop` may be called again and again."""

    def __init__(
        self, tick: Callable[[], None], pause: Callable[[], float], fail: Callable[[str, BaseException], None]
    ) -> None:
        self._tick, self._pause, self._fail = tick, pause, fail
        self._stopped = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; where none can be started, tell it and go without."""
        self._stopped = threading.Event()
        self.thread = threading.Thread(
            target=self._run, args=(self._stopped,), name="crawlo-leaks-detector", daemon=True
        )
        try:
            self.thread.start()
        except RuntimeError as error:  # no more threads, or a fork while the interpreter exits
            self.thread = None
            self._fail("detector thread", error)

    def stop(self) -> None:
        """Tick no more."""
        self._stopped.set()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(JOIN)

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._pause()):
            try:
                self._tick()
            except Exception as error:  # noqa: BLE001  (the detector must outlive a failure of its own)
                self._fail("detector", error)

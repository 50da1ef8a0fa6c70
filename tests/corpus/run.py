"""Runs one function of a program and lingers, so that the detector can judge: `run.py FILE FUNCTION URL`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import time
from pathlib import Path

LINGER = 0.4
"""Seconds between the function's return and the end of the program; its loop is kept open meanwhile."""


def main(file: str, function: str, url: str) -> None:
    sys.path.insert(0, str(Path(file).parent))
    work = getattr(importlib.import_module(Path(file).stem), function)
    if inspect.iscoroutinefunction(work):
        asyncio.run(_linger(work, url))
        return
    work(url)
    time.sleep(LINGER)


async def _linger(work, url):
    await work(url)
    await asyncio.sleep(LINGER)


if __name__ == "__main__":
    main(*sys.argv[1:])

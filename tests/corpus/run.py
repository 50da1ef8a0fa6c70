"""Runs one function of a program and lingers some seconds, so that the detector can judge it.

`run.py FILE FUNCTION URL SECONDS`; its loop is kept open meanwhile.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import time
from pathlib import Path


def main(file: str, function: str, url: str, seconds: str) -> None:
    sys.path.insert(0, str(Path(file).parent))
    work = getattr(importlib.import_module(Path(file).stem), function)
    if inspect.iscoroutinefunction(work):
        asyncio.run(_linger(work, url, float(seconds)))
        return
    work(url)
    time.sleep(float(seconds))


async def _linger(work, url, seconds):
    await work(url)
    await asyncio.sleep(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])

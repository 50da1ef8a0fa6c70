"""Runs one twin of a case and lingers, so that the detector can judge: `run.py CASE TWIN URL`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import time

LINGER = 0.4
"""Seconds between a twin's return and the end of the program; its loop is kept open meanwhile."""


def main(case: str, twin: str, url: str) -> None:
    work = getattr(importlib.import_module(case), twin)
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

"""What a snapshot of Crawlo 1.4.9's LeakDetector takes beside so many objects; runs in a venv of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

RELEASE: Final = "1.4.9"
HOME: Final = Path(__file__).parents[1] / ".cache" / f"crawlo-{RELEASE}"


def snapshot(count: int) -> float:
    """Return the milliseconds of a snapshot, the median of some."""
    from crawlo.utils.leak_detector import LeakDetector  # noqa: PLC0415  (there in the other venv alone)

    kept = [[place] for place in range(count)]
    detector, took = LeakDetector("benchmark"), []
    for _ in range(5):
        start = time.perf_counter()
        detector.snapshot()
        took.append((time.perf_counter() - start) * 1e3)
    del kept
    return statistics.median(took)


def measure(count: int) -> float | None:
    """Make the venv if there is none, and measure in it; None, with the reason told, where that cannot be."""
    python = HOME / "bin" / "python"
    try:
        if not (HOME / ".ready").exists():
            _run(sys.executable, "-m", "venv", str(HOME))
            _run(str(python), "-m", "pip", "install", "--quiet", f"crawlo=={RELEASE}", "psutil")
            (HOME / ".ready").touch()
        return float(json.loads(_run(str(python), __file__, str(count)).splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        print(f"Crawlo {RELEASE} was not measured: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(json.dumps(snapshot(int(sys.argv[1]))))

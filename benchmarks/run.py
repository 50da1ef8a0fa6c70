"""What tracking costs, beside what a user would pick instead: the whole table, its JSON and its picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import chart
import crawlo_snapshot
import rows
import startup
import table
from rounds import Compared, Spread
from table import Line

from crawlo_otel_leaks.tenure import MODULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEED: Final = 0.98
"""Part of the untracked pages a second that a crawl is to keep."""
HERE: Final = Path(__file__).parent
COUNT: Final = 1_000_000
QUICK: Final = 9
"""Rounds of each ratio when they are to be fewer ..."""
LEAST: Final = 2
"""... and the fewest."""
DOCS: Final = HERE.parent / "docs" / "overhead.md"
CRAWL: Final = HERE / "crawl.py"
"""Prints, as its last line, JSON: `pages_per_second` untracked, and `ratio`, tracked/untracked: low, median, high."""


SCALE: Final[tuple[tuple[str, str, float | None, str], ...]] = (
    ("tick_none_ms", "detector tick, {count} live, none due", 1.0, "ms"),
    ("tick_10_ms", "detector tick, {count} live, 10 overdue", 1.0, "ms"),
    ("tick_in_steady_state_ms", "detector tick, {count} live, each looked at once a minute", None, "ms"),
    ("gauges_ms", "collection of all metrics, {count} live", 1.0, "ms"),
    ("bytes_young", "memory of a live connection, RSS over {count}", 300.0, "bytes"),
    ("bytes_old", "the same, once the detector watches it", 300.0, "bytes"),
    ("bytes_file", "memory of a live file, watched", 300.0, "bytes"),
    ("bytes_task", "memory of a live task, watched", 300.0, "bytes"),
)


def ratios(chosen: str, results: dict[str, Any], rounds: int | None) -> Iterator[Line]:
    """Measure what is told as a ratio of times."""
    for row in rows.ROWS:
        if chosen not in row.name:
            continue
        compared = _compared(row, rounds)
        results["ratios"][row.name] = {
            "untracked_us": compared.untracked_us._asdict(),
            "goal": row.goal,
            "ratio": {name: spread._asdict() for name, spread in compared.ratios.items()},
            "later": compared.later,
        }
        ours = compared.ratios[rows.OURS]
        yield Line(
            row.name,
            f"{compared.untracked_us.median:.1f} us",
            f"{ours}, {compared.later[rows.OURS]:.3f} of it later",
            "" if row.goal is None else f"<= {row.goal:.2f}",
            None if row.goal is None else ours.median <= row.goal,
            {name: _told(name, spread, row.goal) for name, spread in compared.ratios.items() if name != rows.OURS},
        )


def _compared(row: rows.Row, rounds: int | None) -> Compared:
    """Measure one row, with the accelerator too, where that is installed: a process has one sort of handles."""
    arguments = ["rows.py", row.name, *([] if rounds is None else [f"--rounds={rounds}"])]
    found = [_of(*arguments)]
    if find_spec(MODULE) is not None and row.level != "off":
        found.append(_of(*arguments, "--accelerated", accelerator=True))
    ratios = {name: Spread(*spread) for one in found for name, spread in one["ratios"].items()}
    later = {name: part for one in found for name, part in one["later"].items()}
    return Compared(Spread(*found[0]["untracked_us"]), ratios, later)


def _told(name: str, spread: Spread, goal: float | None) -> str:
    if name != rows.SWIFT or goal is None:
        return str(spread)
    return f"{spread} {table.MET[spread.median <= goal]}"


def crawl(results: dict[str, Any]) -> Iterator[Line]:
    """Measure a whole crawl."""
    results["crawl"] = found = _of(CRAWL.name, accelerator=False)
    ratio, beside = Spread(**found["ratio"]), {}
    if find_spec(MODULE) is not None:
        results["crawl_accelerated"] = swift = _of(CRAWL.name, accelerator=True)
        told = Spread(**swift["ratio"])
        beside[rows.SWIFT] = f"{told} {table.MET[told.median >= SPEED]}"
    yield Line(
        "Crawlo crawl, 200 local pages",
        f"{found['pages_per_second']:.0f} pages/s",
        str(ratio),
        f">= {SPEED}",
        ratio.median >= SPEED,
        beside,
    )


def _of(script: str, *arguments: str, accelerator: bool = False) -> dict[str, Any]:
    """Return what a benchmark of its own process prints as its last line."""
    environment = {**os.environ, "CRAWLO_OTEL_LEAKS_ACCELERATOR": str(int(accelerator))}
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=HERE, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def scale(results: dict[str, Any], count: int) -> Iterator[Line]:
    """Measure what a million live handles cost, in a process of its own."""
    results["scale"] = found = {}
    for script in (("scale.py", "--count", str(count)), ("memory.py",)):
        found |= _of(*script, accelerator=True)
    if found["errors"]:
        raise SystemExit(f"{found['errors']} failures of the tracker itself: the numbers are void")
    snapshot = crawlo_snapshot.measure(count)
    results["crawlo_snapshot_ms"] = snapshot
    beside = {} if snapshot is None else {"contrib": f"Crawlo {crawlo_snapshot.RELEASE} snapshot: {snapshot:.0f} ms"}
    for key, name, goal, unit in SCALE:
        number = found[key]
        told = "" if goal is None else f"<= {goal:g} {unit}"
        met = None if goal is None else number <= goal
        shown = f"{number:.{0 if unit == 'bytes' else 2}f} {unit}"
        yield Line(name.format(count=f"{count:,}"), "", shown, told, met, beside if "tick" in key else {})


def starts(results: dict[str, Any], *, quick: bool) -> Iterator[Line]:
    """Measure new processes."""
    found = startup.measure(5 if quick else 15)
    results["startup_ms"] = {name: spread._asdict() for name, spread in found.items()}
    added = found["added"]
    untracked = f"{found['telemetry'].median:.0f} ms"
    ours = f"+{added.median:.0f} ({added.low:.0f}-{added.high:.0f}) ms"
    yield Line("import + instrument everything", untracked, ours, "<= 100 ms", added.median <= 100, {})


def conditions() -> str:
    """Return under what the numbers hold."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{platform.python_compiler()}, {platform.machine()}, {os.cpu_count()} cores, load {load} at the end"
    how = "level sampled, in a recording span, depth 20; median (quartiles)"
    return f"Python {platform.python_version()} ({machine}); {how}"


def write(results: dict[str, Any], lines: list[Line], home: Path) -> None:
    """Write JSON, Markdown and the picture."""
    home.mkdir(parents=True, exist_ok=True)
    version = ".".join(platform.python_version_tuple()[:2])
    drawn = {
        name: {way: spread["median"] for way, spread in found["ratio"].items()}
        for name, found in results["ratios"].items()
    }
    (home / f"{version}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (home / f"{version}.md").write_text(table.markdown(lines) + "\n", encoding="utf-8")
    (home / f"{version}.svg").write_text(chart.svg(drawn, results["conditions"]), encoding="utf-8")
    print(f"written to {home}/{version}.json, .md and .svg")


def write_docs(results: dict[str, Any], lines: list[Line]) -> None:
    """Put the table into the docs."""
    version = ".".join(platform.python_version_tuple()[:2])
    block = f"{table.markdown(lines)}\n\n{results['conditions']}."
    DOCS.write_text(table.put_into(DOCS.read_text(encoding="utf-8"), version, block), encoding="utf-8")
    print(f"written to {DOCS}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer handles")
    parser.add_argument("--rounds", type=int, help="so many rounds of each ratio, however few they are")
    parser.add_argument("--only", metavar="WORD", help="only ratios that have this word in their name; writes nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where to write JSON, Markdown and SVG")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/overhead.md, too")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < LEAST:
        parser.error(f"--rounds: {arguments.rounds} found, {LEAST} or more expected, of which a spread can be told")
    results: dict[str, Any] = {"ratios": {}}
    parts: list[Callable[[], Iterator[Line]]] = [
        lambda: ratios(arguments.only or "", results, arguments.rounds or (QUICK if arguments.quick else None)),
    ]
    if arguments.only is None:
        parts += [
            lambda: crawl(results),
            lambda: scale(results, COUNT // 10 if arguments.quick else COUNT),
            lambda: starts(results, quick=arguments.quick),
        ]
    lines = [line for part in parts for line in part()]
    results["conditions"] = conditions()
    print(table.text(lines))
    print(results["conditions"])
    if arguments.only is None:
        write(results, lines, arguments.out)
        if arguments.docs:
            write_docs(results, lines)


if __name__ == "__main__":
    main()

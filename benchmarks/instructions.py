"""Counts the instructions that each operation of a hot path costs, by callgrind, and compares them with a baseline."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hotpath
import hotpaths

from crawlo_otel_leaks.settings import PREFIX
from crawlo_otel_leaks.tenure import MODULE

if TYPE_CHECKING:
    from collections.abc import Callable

HERE: Final = Path(__file__).parent
MARGIN: Final = 0.10
"""Growth of a path's own instructions that fails ..."""
WIDER: Final = 0.25
"""... and with another build of the same Python than the baseline's."""
SLACK: Final = 50
"""Instructions that a path may grow by in any case: a tenth of next to nothing is nothing."""

SHIFTS: Final = (100, 300, 700)
"""How much lies in memory before all else, in the counts more of a path that seems to have grown."""
DRIVER: Final = "before = [(object(), str(n), []) for n in range({shift})]; import hotpaths; hotpaths.main()"
"""What callgrind runs. What lies before all else decides where the rest lies, and so which names meet in CPython's
cache of attributes: own instructions of one path were seen to differ by a sixth."""
SHOWN: Final = 25
"""C functions shown of a path."""
UNAVAILABLE: Final = 3
"""Exit code where nothing can be counted."""


class Count(NamedTuple):
    """Instructions of one operation."""

    plain: float
    tracked: float

    @property
    def own(self) -> float:
        """What tracking adds."""
        return self.tracked - self.plain


def identity() -> dict[str, str]:
    """Return what the numbers hold for."""
    from importlib.metadata import version  # noqa: PLC0415  (of this function alone)

    names = ("opentelemetry-api", "opentelemetry-sdk", "wrapt")
    return {
        "python": platform.python_version(),
        "build": " ".join((*platform.python_build(), platform.python_compiler())),
        "machine": platform.machine(),
        "valgrind": _output("valgrind", "--version"),
        **{name: version(name) for name in names},
    }


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run(path: str, level: str, shift: int = 0) -> list[Counter[str]]:
    """Run one path under callgrind; return the instructions by C function between each two marks."""
    with tempfile.TemporaryDirectory() as home:
        out = Path(home, "out")
        options = ("--instr-atstart=no", f"--dump-before={hotpath.MARK}", f"--callgrind-out-file={out}")
        command = ["valgrind", "--tool=callgrind", *options]
        driver = [sys.executable, "-c", DRIVER.format(shift=shift), path, "--level", level, "--counted"]
        # An environment of its own: what lies on the stack decides where everything else lies.
        environment = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "HOME": home, "LC_ALL": "C.UTF-8"}
        environment[PREFIX + "ACCELERATOR"] = str(int(path.endswith(hotpaths.SUFFIX)))
        called = [*command, *driver]
        done = subprocess.run(called, env=environment, cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{path}: {done.stderr}")
        return [functions(Path(f"{out}.{number}")) for number in range(2, 2 + hotpath.SEGMENTS)]


_NAME: Final = re.compile(r"(c?fn)=\((\d+)\)(?: (.*))?$")
_COST: Final = re.compile(r"[-+*\d]\d* (\d+)$")


def functions(dump: Path) -> Counter[str]:
    """Return the instructions of each C function itself, from one of callgrind's files."""
    names: dict[str, str] = {}
    costs: Counter[str] = Counter()
    current, called = "", False
    for line in dump.read_text(encoding="utf-8").splitlines():
        name, cost = _NAME.match(line), _COST.match(line)
        if name:
            if name[3]:
                names[name[2]] = name[3]
            current = names[name[2]] if name[1] == "fn" else current
        elif cost and not called:
            costs[current.partition("'")[0]] += int(cost[1])
        called = line.startswith("calls=")
    return costs


def each(segments: list[Counter[str]], loops: int) -> tuple[Counter[str], Counter[str]]:
    """Return the instructions of one untracked and one tracked operation, by function: a difference of two rounds."""
    plain, plain_twice, _, tracked, tracked_twice = segments
    return _difference(plain, plain_twice, loops), _difference(tracked, tracked_twice, loops)


def _difference(less: Counter[str], more: Counter[str], loops: int) -> Counter[str]:
    difference: Counter[str] = Counter(more)
    difference.subtract(less)
    return Counter({name: round(count / loops) for name, count in difference.items()})


def count(segments: list[Counter[str]], loops: int) -> Count:
    """Return the instructions of one operation."""
    plain, plain_twice, _, tracked, tracked_twice = (sum(segment.values()) for segment in segments)
    return Count((plain_twice - plain) / loops, (tracked_twice - tracked) / loops)


def is_judged(name: str) -> bool:
    """Whether a path may not grow: parts are shown and not judged."""
    return not name.startswith("part")


def measure(names: list[str], level: str, jobs: int) -> dict[str, list[Counter[str]]]:
    """Run the paths, each in a process of its own."""
    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(names, pool.map(lambda name: run(name, level), names), strict=True))


def show(measured: dict[str, Count], before: dict[str, Any]) -> None:
    """Print a line for each path, beside the baseline's own instructions where there are any."""
    heads = ("untracked", "tracked", "own", "baseline", "change")
    print("instructions of one operation".ljust(38), *(head.rjust(9) for head in heads))
    for name, now in measured.items():
        was = before.get(name)
        told = f"{was:>9.0f} {now.own / was - 1:>+9.1%}" if was else ""
        print(f"{name:<38} {now.plain:>9.0f} {now.tracked:>9.0f} {now.own:>9.0f} {told}")


def show_functions(name: str, segments: list[Counter[str]]) -> None:
    """Print which C functions the instructions of a path are in."""
    plain, tracked = each(segments, hotpath.LOOPS)
    own = Counter(tracked)
    own.subtract(plain)
    print(f"\n{name}: own instructions by C function")
    for function, cost in own.most_common(SHOWN):
        print(f"  {cost:>8}  {function}")


def grown(measured: dict[str, Count], before: dict[str, float], margin: float) -> list[str]:
    """Return what has grown by more than is accepted."""
    return [
        name
        for name, now in measured.items()
        if name in before and is_judged(name) and now.own > before[name] * (1 + margin) + SLACK
    ]


def count_again(measured: dict[str, Count], names: list[str], again: Callable[[str, int], Count]) -> None:
    """Of what seems to have grown, have the least of the counts more: where things lie in memory is chance."""
    for name in names:
        measured[name] = min([measured[name], *(again(name, shift) for shift in SHIFTS)], key=lambda one: one.own)


def baseline_path() -> Path:
    """Return where the baseline of this Python's line is kept."""
    return HERE / "baselines" / f"{sys.version_info[0]}.{sys.version_info[1]}.json"


def compare(measured: dict[str, Count], again: Callable[[str, int], Count]) -> int:
    """Print the comparison with the baseline; return the exit code. `again` counts a path once more."""
    path, here = baseline_path(), identity()
    if not path.exists():
        show(measured, {})
        print(f"no baseline for Python {here['python']}: nothing to compare with")
        return 0
    baseline = json.loads(path.read_text(encoding="utf-8"))
    own = baseline["own"]
    other = {name: value for name, value in here.items() if baseline["made with"].get(name) != value}
    margin = WIDER if other else MARGIN
    count_again(measured, grown(measured, own, margin), again)
    show(measured, own)
    for name, value in other.items():
        print(f"{name} is {value}, in the baseline {baseline['made with'].get(name)}")
    failures = grown(measured, own, margin)
    for name in failures:
        told = f"{name}: {measured[name].own:.0f} instructions, {own[name]:.0f} in the baseline"
        print(f"GROWN by more than {margin:.0%}: {told}", file=sys.stderr)
    return 1 if failures else 0


def update(measured: dict[str, Count]) -> None:
    """Write the baseline; what was not counted now stays, if it was counted in the same environment."""
    path, here = baseline_path(), identity()
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = before["own"] if before.get("made with") == here else {}
    own = {**kept, **{name: round(now.own) for name, now in measured.items()}}
    path.write_text(json.dumps({"made with": here, "own": own}, indent=2) + "\n", encoding="utf-8")
    show(measured, {})
    print(f"written to {path}")


def main() -> int:
    """Count, print, compare or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="only paths that have this word in their name")
    parser.add_argument("--judged", action="store_true", help="only paths that are judged: no parts of them")
    parser.add_argument("--update", action="store_true", help="write the baseline")
    parser.add_argument("--functions", action="store_true", help="show the C functions that the instructions are in")
    parser.add_argument("--level", default="sampled", choices=["sampled", "full"], help="how much is tracked")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="paths counted at the same time")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: instructions are not counted", file=sys.stderr)
        return UNAVAILABLE
    every = [*hotpaths.PATHS, *(hotpaths.ACCELERATED if find_spec(MODULE) else ())]
    names = [name for name in every if arguments.only in name and (is_judged(name) or not arguments.judged)]
    counted = measure(names, arguments.level, arguments.jobs)
    measured = {name: count(segments, hotpath.LOOPS) for name, segments in counted.items()}
    if arguments.functions:
        for name, segments in counted.items():
            show_functions(name, segments)
    if arguments.update:
        update(measured)
        return 0
    return compare(measured, lambda name, shift: count(run(name, arguments.level, shift), hotpath.LOOPS))


if __name__ == "__main__":
    sys.exit(main())

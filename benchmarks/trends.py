"""How often growth is seen, and imagined, over many seeds, beside fixed thresholds; prints docs/trends.md's tables."""

from __future__ import annotations

import argparse
import math
import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from crawlo_otel_leaks.trends import Verdict, trend

if TYPE_CHECKING:
    from collections.abc import Callable

    Points = list[tuple[float, float]]
    Shape = Callable[[random.Random, float], float]

POINTS: Final = 240
"""An hour of snapshots ..."""
INTERVAL: Final = 15.0
"""... every so many seconds."""


class Quantity(NamedTuple):
    """Something measured: its level, its usual noise, and by how much more a fixed threshold calls it a leak."""

    name: str
    level: float
    noise: float
    threshold: float
    whole: bool


QUANTITIES: Final = (
    Quantity("RSS, +10 MB", 200e6, 3e6, 10e6, whole=False),
    Quantity("objects, +1000", 100_000, 400, 1000, whole=True),
    Quantity("fds, +10", 60, 3, 10, whole=True),
    Quantity("threads, +5", 20, 1.5, 5, whole=True),
)


class Sequence(NamedTuple):
    """A scripted course, in units of the noise, over time from 0 to 1."""

    name: str
    grows: bool
    at: Callable[[random.Random], Callable[[float], float]]
    noise: float = 1.0


def _saw(rng: random.Random, teeth: float, height: float, higher: float = 0.0) -> Callable[[float], float]:
    phase = rng.random()
    return lambda at: (height + higher * at) * ((at * teeth + phase) % 1.0)


def _spike(rng: random.Random) -> Callable[[float], float]:
    start = rng.uniform(0.1, 0.95)
    return lambda at: 40.0 if start <= at < start + 0.03 else 0.0


def _step(rng: random.Random, low: float, high: float, height: float = 8.0) -> Callable[[float], float]:
    start = rng.uniform(low, high)
    return lambda at: height * (at >= start)


def _wave(rng: random.Random, periods: float, height: float) -> Callable[[float], float]:
    phase = rng.random()
    return lambda at: height * math.sin(2 * math.pi * (periods * at + phase))


def _stairs(rng: random.Random, steps: int, height: float) -> Callable[[float], float]:
    times = sorted(rng.random() for _ in range(steps))
    return lambda at: height * sum(at >= time for time in times)


def _even_stairs(rng: random.Random, steps: int, height: float) -> Callable[[float], float]:
    phase = rng.random()
    return lambda at: height * math.floor(at * steps + phase)


def _walk(rng: random.Random) -> Callable[[float], float]:
    """Noise that remembers: autoregressive, 0.8 from point to point."""
    state = 0.0

    def at(_: float) -> float:
        nonlocal state
        state = 0.8 * state + rng.gauss(0, 2)
        return state

    return at


def _plus(*parts: Callable[[float], float]) -> Callable[[float], float]:
    return lambda at: sum(part(at) for part in parts)


SEQUENCES: Final = (
    Sequence("constant", grows=False, at=lambda _: lambda _: 0.0, noise=0.0),
    Sequence("noise", grows=False, at=lambda _: lambda _: 0.0),
    Sequence("noise that remembers (AR 0.8)", grows=False, at=_walk),
    Sequence("spike", grows=False, at=_spike),
    Sequence("step, in the first half", grows=False, at=lambda rng: _step(rng, 0.1, 0.5)),
    Sequence("step, in the second half", grows=False, at=lambda rng: _step(rng, 0.5, 0.95)),
    Sequence("step down", grows=False, at=lambda rng: _step(rng, 0.2, 0.8, height=-8.0)),
    Sequence("warm-up, quick, then flat", grows=False, at=lambda _: lambda at: 20 * (1 - math.exp(-at / 0.03))),
    Sequence("warm-up, slow, then flat", grows=False, at=lambda _: lambda at: 20 * (1 - math.exp(-at / 0.12))),
    Sequence(
        "warm-up, then one step",
        grows=False,
        at=lambda rng: _plus(lambda at: 20 * (1 - math.exp(-at / 0.05)), _step(rng, 0.4, 0.9)),
    ),
    Sequence("growth, then plateau from half on", grows=False, at=lambda _: lambda at: 40 * min(at, 0.5)),
    Sequence("growth, then plateau from 3/4 on", grows=False, at=lambda _: lambda at: 40 * min(at, 0.75)),
    Sequence("sawtooth, 30 teeth", grows=False, at=lambda rng: _saw(rng, 30, 20)),
    Sequence("sawtooth, 8 teeth", grows=False, at=lambda rng: _saw(rng, 8, 20)),
    Sequence("sawtooth, 3 teeth", grows=False, at=lambda rng: _saw(rng, 3, 20)),
    Sequence("sawtooth, 15 teeth, ever higher", grows=False, at=lambda rng: _saw(rng, 15, 5, 30)),
    Sequence("sawtooth, 6 teeth, ever higher", grows=False, at=lambda rng: _saw(rng, 6, 5, 30)),
    Sequence("wave, 2 periods", grows=False, at=lambda rng: _wave(rng, 2, 10)),
    Sequence("falling", grows=False, at=lambda _: lambda at: -10 * at),
    Sequence("linear, 2 x noise in the hour", grows=True, at=lambda _: lambda at: 2 * at),
    Sequence("linear, 4 x noise in the hour", grows=True, at=lambda _: lambda at: 4 * at),
    Sequence("linear, 20 x noise in the hour", grows=True, at=lambda _: lambda at: 20 * at),
    Sequence("linear, no noise", grows=True, at=lambda _: lambda at: 20 * at, noise=0.0),
    Sequence(
        "two slopes, quick then slow", grows=True, at=lambda _: lambda at: 30 * min(at, 0.3) + 12 * max(at - 0.3, 0)
    ),
    Sequence("two slopes, slow then quick", grows=True, at=lambda _: lambda at: 8 * at + 30 * max(at - 0.6, 0)),
    Sequence("warm-up, then linear", grows=True, at=lambda _: lambda at: 20 * (1 - math.exp(-at / 0.05)) + 10 * at),
    Sequence("staircase, even, 8 steps", grows=True, at=lambda rng: _even_stairs(rng, 8, 3)),
    Sequence("staircase, at random, 20 steps", grows=True, at=lambda rng: _stairs(rng, 20, 1.5)),
    Sequence("sawtooth, 5 teeth, on a slope", grows=True, at=lambda rng: _plus(_saw(rng, 5, 20), lambda at: 15 * at)),
    Sequence("sawtooth, 12 teeth, on a slope", grows=True, at=lambda rng: _plus(_saw(rng, 12, 20), lambda at: 15 * at)),
    Sequence("sawtooth, 30 teeth, on a slope", grows=True, at=lambda rng: _plus(_saw(rng, 30, 20), lambda at: 15 * at)),
    Sequence("remembering noise on a slope", grows=True, at=lambda rng: _plus(_walk(rng), lambda at: 20 * at)),
    Sequence("late: flat, then linear from 0.6 on", grows=True, at=lambda _: lambda at: 30 * max(at - 0.6, 0)),
)

PATIENCE: Final = (
    "linear, 2 x noise in the hour",
    "linear, 4 x noise in the hour",
    "sawtooth, 5 teeth, on a slope",
    "sawtooth, 12 teeth, on a slope",
    "remembering noise on a slope",
)
"""Leaks that an hour may not show, and that go on."""


def course(sequence: Sequence, quantity: Quantity, seed: int, points: int = POINTS) -> Points:
    """Return one scripted series, the same for the same seed."""
    rng = random.Random(f"{sequence.name} {quantity.name} {seed}")
    at = sequence.at(rng)
    made = []
    for place in range(points):
        units = at(place / POINTS) + sequence.noise * rng.gauss(0, 1)
        value = quantity.level + quantity.noise * units
        made.append((place * INTERVAL, float(round(value)) if quantity.whole else value))
    return made


def row(sequence: Sequence, seeds: int, points: int = POINTS) -> tuple[float, list[float]]:
    """Return how often the test, and each fixed threshold, calls a sequence growing: shares from 0 to 1."""
    ours, fixed = 0, []
    for quantity in QUANTITIES:
        courses = [course(sequence, quantity, seed, points) for seed in range(seeds)]
        ours += sum(trend(one).verdict is Verdict.GROWING for one in courses)
        fixed.append(sum(one[-1][1] - one[0][1] >= quantity.threshold for one in courses) / seeds)
    return ours / seeds / len(QUANTITIES), fixed


def table(seeds: int) -> list[str]:
    """Return the lines of the table, in Markdown."""
    heads = ["sequence", "is it growth?", "trends.py", *(quantity.name for quantity in QUANTITIES)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 2}{'---:|' * (len(heads) - 2)}"]
    wrong: dict[bool, list[list[float]]] = {True: [], False: []}
    for sequence in SEQUENCES:
        ours, fixed = row(sequence, seeds)
        called = [ours, *fixed]
        wrong[sequence.grows].append([1 - share if sequence.grows else share for share in called])
        cells = [f"{share:.1%}" for share in called]
        lines.append(f"| {sequence.name} | {'yes' if sequence.grows else 'no'} | {' | '.join(cells)} |")
    for grows, name in ((False, "**false alarms, mean**"), (True, "**misses, mean**")):
        means = [sum(column) / len(column) for column in zip(*wrong[grows], strict=True)]
        lines.append(f"| {name} | | {' | '.join(f'**{mean:.1%}**' for mean in means)} |")
    return lines


def later(seeds: int) -> list[str]:
    """Return the lines of the table of what an hour does not show."""
    lines = ["| leak | after 1 h | 2 h | 3 h |", "|---|---:|---:|---:|"]
    for sequence in SEQUENCES:
        if sequence.name in PATIENCE:
            shares = [row(sequence, seeds, POINTS * hours)[0] for hours in (1, 2, 3)]
            lines.append(f"| {sequence.name} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return lines


def main() -> None:
    """Print the table and what a verdict costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="series of each kind and quantity")
    arguments = parser.parse_args()
    print("\n".join([*table(arguments.seeds), "", *later(arguments.seeds)]))
    points = course(SEQUENCES[1], QUANTITIES[0], 0, 720)
    began = time.perf_counter()
    for _ in range(20):
        trend(points)
    print(f"\nA verdict on 720 points takes {(time.perf_counter() - began) / 20 * 1e3:.1f} ms.")


if __name__ == "__main__":
    main()

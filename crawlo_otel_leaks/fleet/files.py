"""Files of a fleet: OTLP in JSON lines, and reports of single processes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from crawlo_otel_leaks.fleet import otlp
from crawlo_otel_leaks.fleet.ranking import Ranking
from crawlo_otel_leaks.fleet.sighting import Sighting
from crawlo_otel_leaks.report import formats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OPENING: Final = ('{"resourceSpans"', '{"resourceLogs"', '{"resourceMetrics"')


def holds_otlp(path: str) -> bool:
    """Whether a file begins as OTLP JSON lines do; raise OSError if it cannot be read."""
    longest = max(len(opening) for opening in _OPENING)
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        return file.read(longest).startswith(_OPENING)


def read(paths: Sequence[str]) -> Ranking:
    """Return the leaks of all files, ranked.

    Raise ReportError for a file that is neither OTLP nor a report, OSError for one that cannot be read.
    """
    ranking = Ranking()
    for path in paths:
        _take(ranking, path)
    return ranking


def _take(ranking: Ranking, path: str) -> None:
    if not holds_otlp(path):
        for seen in _of_report(path):
            ranking.take(seen)
        return
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                for seen in list(otlp.sightings(line)) if line.strip() else ():
                    ranking.take(seen)
            except ValueError as error:
                # The last line of a collector that was killed is a half; the rest is worth reading.
                ranking.unread.append(f"{path}:{number}: {error}")


def _of_report(path: str) -> Iterator[Sighting]:
    report = formats.read(path)
    seen_ns = _nanoseconds(report.generated_at)
    for entry in report.leaks:
        if entry.reason != "slow":
            yield Sighting(
                fingerprint=entry.fingerprint,
                reason=entry.reason,
                kind=entry.kind,
                process=path,
                seen_ns=seen_ns,
                count=entry.count,
                place=f"{entry.site['file']}:{entry.site['line']} in {entry.site['function']}",
                trace_id=entry.trace_id or "",
                span_id=entry.span_id or "",
                resolved=entry.resolved,
            )


def _nanoseconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        return 0

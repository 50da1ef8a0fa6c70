"""The table: each row beside its goal, as text and as Markdown."""

from __future__ import annotations

from typing import Final, NamedTuple


class Line(NamedTuple):
    """One row with its number."""

    name: str
    untracked: str
    ours: str
    goal: str
    met: bool | None
    """None where there is no goal, or no number."""
    rivals: dict[str, str]


HEADS: Final = ("", "untracked", "tracked", "goal", "", "accelerated", "tracemalloc(16)", "warnings + debug", "contrib")
MET: Final = {True: "met", False: "MISSED", None: ""}


def cells(line: Line) -> tuple[str, ...]:
    """Return a line's cells."""
    others = (line.rivals.get(head, "-") for head in HEADS[5:])
    return (line.name, line.untracked, line.ours, line.goal, MET[line.met], *others)


def text(lines: list[Line]) -> str:
    """Return it in columns."""
    rows = [HEADS, *map(cells, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(lines: list[Line]) -> str:
    """Return it for the docs."""
    head = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    return "\n".join([*head, *("| " + " | ".join(cells(line)) + " |" for line in lines)])


def put_into(document: str, version: str, block: str) -> str:
    """Return the document with what stands between a version's two marks replaced; without marks it is refused."""
    begin, end = f"<!-- {version} -->\n", f"<!-- /{version} -->\n"
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"no marks {begin.strip()} and {end.strip()} in the document")
    return f"{before}{begin}\n{block}\n\n{end}{after}"

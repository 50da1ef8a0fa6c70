"""crawlo-leaks top: what a running process holds, by line, as it changes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crawlo_otel_leaks import endpoint
from crawlo_otel_leaks.cli.errors import UsageError
from crawlo_otel_leaks.report.language import amount, language
from crawlo_otel_leaks.report.printable import printable
from crawlo_otel_leaks.semconv import LIVE_SCHEMA

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

PATIENCE: Final = 30.0
"""Seconds to wait for a table; a process tells one at each tick, every SCAN_INTERVAL seconds."""
_SORTS: Final = {"count": lambda row: -row["count"], "age": lambda row: -row["age_s"]}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "top",
        help="watch what a running process holds",
        description="Show the open handles of a running instrumented process by line, kind, age, owner and verdict. "
        "Without PID, list the processes that can be watched.",
    )
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the process")
    parser.add_argument("--once", action="store_true", help="show one table and end; exit code 1 if it has leaks")
    parser.add_argument("--json", action="store_true", help="print each table as one line of JSON")
    parser.add_argument("--sort", choices=_SORTS, default="count", help="what comes first below the leaks")
    parser.set_defaults(command=_top)


def _top(arguments: argparse.Namespace) -> int:
    if arguments.pid is None:
        return _list()
    tables = _tables(arguments.pid)
    if arguments.once:
        table = next(tables)
        _print(table, arguments)
        return int(any(row["leak"] for row in table["rows"]))
    with contextlib.suppress(KeyboardInterrupt):  # how one leaves it
        _watch(tables, arguments)
        Console(stderr=True).print(f"process {arguments.pid} has ended")
    return 0


def _watch(tables: Iterator[dict[str, Any]], arguments: argparse.Namespace) -> None:
    if arguments.json or not sys.stdout.isatty():
        for table in tables:
            _print(table, arguments)
        return
    with Live(console=Console(), auto_refresh=False, screen=False) as live:
        for table in tables:
            live.update(_drawn(table, arguments.sort), refresh=True)


def _print(table: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(table), flush=True)  # noqa: T201  (a command's own voice)
    else:
        Console().print(_drawn(table, arguments.sort))


def _list() -> int:
    found = sorted(int(path.stem) for path in endpoint.folder(os.getuid()).glob("*.sock") if path.stem.isdecimal())
    running = [pid for pid in found if Path(f"/proc/{pid}").exists()]
    if not running:
        raise UsageError("no instrumented process of this user is running; expected `crawlo-leaks top PID` of one")
    for pid in running:
        Console().print(f"{pid}  {_command(pid)}", markup=False, highlight=False)
    return 0


def _tables(pid: int) -> Iterator[dict[str, Any]]:
    """Yield the tables that a process tells, the first of which there is; raise UsageError if there is none."""
    path = _path(pid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise UsageError(_not_watched(pid, path, error)) from error
        yield from _lines(pid, connection)


def _lines(pid: int, connection: socket.socket) -> Iterator[dict[str, Any]]:
    some = False
    with connection.makefile("rb") as lines:
        try:
            for line in lines:
                table = json.loads(line)
                if table.get("schema") != LIVE_SCHEMA:
                    raise UsageError(f"process {pid} tells {table.get('schema')!r}; expected {LIVE_SCHEMA!r}")
                some = True
                yield table
        except (TimeoutError, ConnectionError) as error:
            raise UsageError(
                f"process {pid} told nothing for {PATIENCE:.0f} s: it is stopped, or its exporter hangs; "
                "expected a table every SCAN_INTERVAL",
            ) from error
    if not some:
        raise UsageError(f"process {pid} hung up: it has ended, or {endpoint.WATCHERS} others are watching it")


def _path(pid: int) -> Path:
    """Return where the process listens, as seen from here: in a container it has another root, and another number."""
    place = Path(f"/proc/{pid}")
    try:
        user, status = place.stat().st_uid, (place / "status").read_text()
    except OSError as error:
        raise UsageError(f"there is no process {pid}; `crawlo-leaks top` lists those that can be watched") from error
    inner = next((line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")), str(pid))
    below = endpoint.folder(user) / f"{inner}.sock"
    through = Path(f"/proc/{pid}/root") / below.relative_to("/")
    return through if _seen(through) else below


def _seen(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _not_watched(pid: int, path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"process {pid} is another user's: only that user may watch it"
    return (
        f"process {pid} ({_command(pid)}) is not instrumented: found no {path} to connect to ({error.strerror}); "
        f"expected a program started by `opentelemetry-instrument python app.py` with CRAWLO_OTEL_LEAKS_TOP on"
    )


def _command(pid: int) -> str:
    """Return the program's name alone: its arguments may hold secrets."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


# The table.


def _drawn(table: dict[str, Any], sort: str) -> Table:
    leaks = [row for row in table["rows"] if row["leak"]]
    rest = [row for row in table["rows"] if not row["leak"]]
    drawn = Table(title=_title(table), title_justify="left", caption=_caption(table), caption_justify="left")
    for name, right in (("handles", True), ("kind", False), ("oldest", True), ("verdict", False), ("site", False)):
        drawn.add_column(name, justify="right" if right else "left")
    drawn.add_column("owner")
    for row in [*sorted(leaks, key=_SORTS[sort]), *sorted(rest, key=_SORTS[sort])]:
        drawn.add_row(*_cells(row), style="bold red" if row["leak"] else "")
    return drawn


def _cells(row: dict[str, Any]) -> Iterator[Text]:
    site = row["site"]
    yield Text(str(row["count"]))
    yield Text(row["kind"])
    yield Text(language("en").humane(row["age_s"]))
    yield Text(row["verdict"])
    place = printable(f"{site['file']}:{site['line']} {site['function']}")
    yield Text(f"{place}\n{printable(row['name'])}".rstrip(), overflow="fold")
    owner = ", ".join(f"{key} {value}" for key, value in row["owner"].items() if value and key != "run_id")
    yield Text(printable(owner), overflow="fold")


def _title(table: dict[str, Any]) -> Text:
    held = ", ".join(f"{kind} {count}" for kind, count in table["handles"].items()) or "nothing"
    return Text(f"{printable(table['command'])} ({table['pid']}) holds {held}", style="bold")


def _caption(table: dict[str, Any]) -> Text:
    process = {key: value for key, value in table["process"].items() if value is not None}
    if "rss" in process:
        process["rss"] = amount("rss", process["rss"])
    told = ", ".join(
        f"{key} {value:.0f}" if isinstance(value, float) else f"{key} {value}" for key, value in process.items()
    )
    return Text(f"{told}; {table['left_out']} handles not shown" if table["left_out"] else told)

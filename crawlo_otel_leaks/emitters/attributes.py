"""A leak or a handle as OpenTelemetry attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from typing import Any

    from crawlo_otel_leaks.growth import Grown
    from crawlo_otel_leaks.model import Frame, Leak, Owner

    Attributes = dict[str, str | int | float | tuple[str, ...]]


def of_leak(leak: Leak, count: int) -> Attributes:
    """Return what a leak span and its log event say. `crawlo.leak.held` is in seconds."""
    told: Attributes = {
        **of_handle(leak.kind, leak.name, leak.owner),
        semconv.HANDLE_ID: leak.id,
        semconv.LEAK_REASON: leak.reason.value,
        semconv.LEAK_FINGERPRINT: leak.fingerprint,
        semconv.LEAK_HELD: leak.held,
        semconv.LEAK_COUNT: count,
        semconv.CODE_STACKTRACE: stacktrace(leak.stack),
        semconv.ERROR_TYPE: leak.reason.value,
        **of_frame(leak.where),
    }
    if leak.holds:
        told[semconv.HANDLE_HOLDS] = tuple(printable(one) for one in leak.holds)
    return {key: printable(value) if isinstance(value, str) else value for key, value in told.items()}


def of_handle(kind: str, name: str, owner: Owner) -> Attributes:
    """Return what identifies a handle and its owner."""
    known: dict[str, str | None] = {
        semconv.HANDLE_KIND: kind,
        semconv.HANDLE_NAME: name or None,
        semconv.THREAD_NAME: owner.thread,
        semconv.TASK_NAME: owner.task,
        semconv.SCOPE_NAME: owner.scope,
        semconv.SPIDER_NAME: owner.spider,
        semconv.RUN_ID: owner.run_id,
    }
    return {key: printable(value) for key, value in known.items() if value is not None}


def of_growth(grown: Grown) -> dict[str, Any]:
    """Return what an event says of memory that grows. `crawlo.memory.window` is in seconds."""
    sites = (f"{one['file']}:{one['line']} +{one['growth_bytes']} bytes in {one['count']}" for one in grown.sites)
    types = (f"{one['type']} +{one['growth']} ({one['first']} to {one['last']})" for one in grown.types)
    chain: list[str] = next((one["referrers"] for one in grown.types if one["referrers"]), [])
    return {
        semconv.MEMORY_WINDOW: grown.seconds,
        semconv.MEMORY_SITES: tuple(map(printable, sites)),
        semconv.MEMORY_TYPES: tuple(map(printable, types)),
        semconv.MEMORY_REFERRERS: tuple(map(printable, chain)),
    }


def printable(text: str) -> str:
    """Return the text as UTF-8 can carry it: one undecodable file name would cost its whole batch of telemetry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def of_frame(frame: Frame) -> Attributes:
    """Return the `code.*` attributes of a frame."""
    return {
        semconv.CODE_FUNCTION_NAME: frame.function,
        semconv.CODE_FILE_PATH: frame.file,
        semconv.CODE_LINE_NUMBER: frame.line,
    }


def stacktrace(stack: tuple[Frame, ...]) -> str:
    """Return the stack as Python prints one: outermost first, with the source lines."""
    lines = ["Acquired at (most recent call last):"]
    for frame in reversed(stack):
        lines.append(f"  {frame}")
        if frame.text:
            lines.append(f"    {frame.text}")
    return "\n".join(lines)

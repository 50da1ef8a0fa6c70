"""An analysis of a leak detector as text for people, in English or Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from crawlo_otel_leaks.report.language import from_locale
from crawlo_otel_leaks.snapshots import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crawlo_otel_leaks.snapshots import ResourceSnapshot

_ENGLISH: Final = {
    "title": "Resource leak report",
    "detector": "Detector",
    "snapshots": "Snapshots",
    "duration": "Duration",
    "seconds": "s",
    "changes": "Changes",
    "leaks": "Potential leaks",
    "trend": "Trends",
    "types": "Object types",
    "unknown": "not known",
    "healthy": "HEALTHY: no leak detected",
    "leak_detected": "LEAK DETECTED",
    "insufficient_data": "INSUFFICIENT DATA",
    "memory": "memory",
    "memory_mb": "memory (MB)",
    "objects": "objects",
    "file_descriptors": "file descriptors",
    "threads": "threads",
    "tasks": "tasks",
    "sockets": "sockets",
    "http_sessions": "HTTP sessions",
    "http_connections": "HTTP connections",
    "db_connections": "database connections",
    "redis_connections": "redis connections",
    "subprocesses": "subprocesses",
    "resources": "resources",
    "high": "high",
    "medium": "medium",
}
_CHINESE: Final = {
    "title": "资源泄漏检测报告",
    "detector": "检测器",
    "snapshots": "快照数量",
    "duration": "持续时间",
    "seconds": "秒",
    "changes": "资源变化",
    "leaks": "潜在泄漏",
    "trend": "趋势",
    "types": "对象类型变化",
    "unknown": "未知",
    "healthy": "健康: 未检测到泄漏",
    "leak_detected": "检测到泄漏",
    "insufficient_data": "数据不足",
    "memory": "内存",
    "memory_mb": "内存 (MB)",
    "objects": "对象数",
    "file_descriptors": "文件描述符",
    "threads": "线程",
    "tasks": "协程任务",
    "sockets": "套接字",
    "http_sessions": "HTTP 会话",
    "http_connections": "HTTP 连接",
    "db_connections": "数据库连接",
    "redis_connections": "Redis 连接",
    "subprocesses": "子进程",
    "resources": "资源",
    "high": "高",
    "medium": "中",
}
_LANGUAGES: Final = {"en": _ENGLISH, "zh": _CHINESE}
_RULE: Final = "=" * 60
_BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 40
"""Marks that a trend is drawn with, at most."""


def render(name: str, told: Mapping[str, Any], series: Sequence[ResourceSnapshot], lang: str | None = None) -> str:
    """Return the text of an analysis and its snapshots; raise ValueError for a language that there is not."""
    words = _words(lang)
    lines = [
        _RULE,
        words["title"],
        _RULE,
        f"{words['detector']}: {name}",
        f"{words['snapshots']}: {told['snapshot_count']}",
        f"{words['duration']}: {told['duration_seconds']:.2f} {words['seconds']}",
        "",
        words[told["status"]],
        *([f"  {told['message']}"] if "message" in told else []),
        *_section(words["leaks"], [line for leak in told["potential_leaks"] for line in _leak(leak, words)]),
        *_section(words["changes"], [_change(key, told["changes"], words) for key in METRICS]),
        *_section(words["trend"], _drawn(series, words)),
        *_section(words["types"], [_grown(one) for one in told["type_changes"]]),
        _RULE,
    ]
    return "\n".join(lines)


def _words(lang: str | None) -> Mapping[str, str]:
    if lang is None:
        lang = from_locale() or "en"
    if lang not in _LANGUAGES:
        raise ValueError(f"found language {lang!r}, expected one of {', '.join(_LANGUAGES)}")
    return _LANGUAGES[lang]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _leak(leak: Mapping[str, Any], words: Mapping[str, str]) -> list[str]:
    growth = leak.get("growth", leak.get("growth_mb"))
    return [
        f"{words[leak['type']]}: +{growth} ({words[leak['severity']]})",
        *(
            f"  {site['count']} x {site['name']}  {site['reason']}  {site['file']}:{site['line']} {site['function']}"
            for site in leak["sites"]
        ),
    ]


def _change(key: str, changes: Mapping[str, float | None], words: Mapping[str, str]) -> str:
    value, percent = changes[key], changes.get(f"{key.removesuffix('_mb')}_percent")
    shown = words["unknown"] if value is None else f"{value:+g}"
    return f"{words[key]}: {shown}" + ("" if percent is None else f" ({percent:+.2f}%)")


def _drawn(series: Sequence[ResourceSnapshot], words: Mapping[str, str]) -> list[str]:
    """Draw what was noted more than once, one line each."""
    known = {key: [value for one in series if (value := one.metric(key)) is not None] for key in METRICS}
    return [
        f"{_sparks(values)}  {min(values):g} - {max(values):g}  {words[key]}"
        for key, values in known.items()
        if len(values) > 1
    ]


def _sparks(values: Sequence[float]) -> str:
    step = -(-len(values) // WIDTH)
    shown = values[::-step][::-1]
    low, high = min(shown), max(shown)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0
    return "".join(_BARS[round((value - low) * scale)] for value in shown)


def _grown(change: Mapping[str, Any]) -> str:
    return f"{change['type']}: {change['old_count']} -> {change['new_count']} (+{change['growth']})"

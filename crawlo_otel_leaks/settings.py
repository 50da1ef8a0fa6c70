"""Every knob, read from the environment, validated, and refused aloud."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "CRAWLO_OTEL_LEAKS_"
LEVELS = ("off", "sampled", "full")
LEAK_SPANS = ("all", "sampled", "off")
LANGUAGES = ("en", "zh")
REPORT_SUFFIXES = (".html", ".json", ".sarif", ".txt")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")

# Seconds idle before a handle of the kind is held too long; a kind without one has no such limit.
# Sessions, threads and tasks live long by design; so does a child process, whose time begins when it has ended.
DEFAULT_THRESHOLDS: Mapping[str, float] = {
    semconv.FILE: 300.0,
    semconv.SOCKET: 300.0,
    semconv.HTTP_CONNECTION: 60.0,
    semconv.REDIS_CONNECTION: 30.0,
    semconv.DB_CONNECTION: 30.0,
    semconv.SUBPROCESS: 300.0,
}
DEFAULT_HOLD_SPANS = frozenset(
    {
        semconv.HTTP_SESSION,
        semconv.HTTP_CONNECTION,
        semconv.REDIS_CONNECTION,
        semconv.DB_CONNECTION,
    },
)


class SettingsError(ValueError):
    """A setting that makes no sense: the text names it, its value and what is accepted."""


def _flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise SettingsError(f"one of {', '.join(_TRUE + _FALSE)}")


def _choice(accepted: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in accepted:
            raise SettingsError(f"one of {', '.join(accepted)}")
        return text.lower()

    return read


def _seconds(least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -inf
        if not isfinite(value) or value < least:
            raise SettingsError(f"seconds, a number of at least {least:g}")
        return value

    return read


def _frames(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:  # noqa: PLR2004  (said in the message)
        raise SettingsError("a whole number of frames from 1 to 256")
    return int(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _kinds(text: str) -> frozenset[str]:
    chosen = _words(text)
    if not set(chosen) <= set(semconv.KINDS):
        raise SettingsError(f"kinds, separated by commas, of {', '.join(semconv.KINDS)}")
    return frozenset(chosen)


def _thresholds(text: str) -> Mapping[str, float]:
    chosen = dict(DEFAULT_THRESHOLDS)
    for word in _words(text):
        kind, _, seconds = word.partition("=")
        try:
            value = float(seconds)
        except ValueError:
            value = -inf
        if kind.strip() not in semconv.KINDS or not value > 0:
            kinds = ", ".join(semconv.KINDS)
            raise SettingsError(f"kind=seconds, separated by commas, kind one of {kinds}, seconds above 0")
        chosen[kind.strip()] = value
    return chosen


def _reports(text: str) -> tuple[str, ...]:
    paths = tuple(path for path in text.split(os.pathsep) if path)
    if not paths or not all(path.endswith(REPORT_SUFFIXES) for path in paths):
        suffixes = ", ".join(REPORT_SUFFIXES)
        raise SettingsError(f"paths, separated by {os.pathsep!r}, each ending in one of {suffixes}")
    return paths


def _trace_url(text: str) -> str:
    if not text.startswith(("http://", "https://")) or "{trace_id}" not in text:
        raise SettingsError("an http or https URL that contains {trace_id}")
    return text


def _knob(default: Any, read: Callable[[str], Any]) -> Any:  # noqa: ANN401  (dataclasses.field is typed so)
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True)
class Settings:
    """What the user may choose; each field is `CRAWLO_OTEL_LEAKS_<NAME>` in the environment.

    `grace`, `scan_interval`, `hold_min`, `pool_wait`, `memory_window` and the values of `thresholds` are seconds.
    """

    enabled: bool = _knob(default=True, read=_flag)
    level: str = _knob("sampled", _choice(LEVELS))
    thresholds: Mapping[str, float] = field(
        default_factory=lambda: dict(DEFAULT_THRESHOLDS),
        metadata={"read": _thresholds},
    )
    grace: float = _knob(30.0, _seconds(0.0))
    scan_interval: float = _knob(5.0, _seconds(0.01))
    stack_depth: int = _knob(20, _frames)
    hold_spans: frozenset[str] = _knob(DEFAULT_HOLD_SPANS, _kinds)
    hold_min: float = _knob(0.1, _seconds(0.0))
    leak_spans: str = _knob("all", _choice(LEAK_SPANS))
    pool_wait: float = _knob(5.0, _seconds(0.0))
    ignore: tuple[str, ...] = _knob((), _words)
    report: tuple[str, ...] = _knob((), _reports)
    trace_url: str = _knob("", _trace_url)
    lang: str = _knob("", _choice(LANGUAGES))
    memory_window: float = _knob(0.0, _seconds(0.0))
    top: bool = _knob(default=True, read=_flag)
    capture_paths: bool = _knob(default=True, read=_flag)
    accelerator: bool = _knob(default=True, read=_flag)

    @property
    def active(self) -> bool:
        """Whether anything is to be tracked at all."""
        return self.enabled and self.level != "off"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> tuple[Settings, list[str]]:
        """Return the settings and one message for each value that was refused for its default."""
        chosen: dict[str, Any] = {}
        refused: list[str] = []
        for knob in fields(cls):
            variable = PREFIX + knob.name.upper()
            text = environ.get(variable, "").strip()
            if not text:
                continue
            try:
                chosen[knob.name] = knob.metadata["read"](text)
            except SettingsError as accepted:
                refused.append(f"{variable}={text!r} is refused: expected {accepted}; using the default")
        return cls(**chosen), refused + _unknown(environ, {PREFIX + knob.name.upper() for knob in fields(cls)})


def _unknown(environ: Mapping[str, str], known: set[str]) -> list[str]:
    strangers = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    names = ", ".join(sorted(known))
    return [f"{name} is no setting: expected one of {names}" for name in strangers]

"""Leaks by fingerprint and reason: opened, strengthened, resolved, and told to the sinks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, Protocol

from crawlo_otel_leaks import owner, sites
from crawlo_otel_leaks.model import Finding, Leak, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlo_otel_leaks.model import Handle

LIMIT: Final = 1_000
"""Findings kept; more distinct ones are only counted."""


class Sink(Protocol):
    """Where verdicts go; called on the detector's thread, or at exit."""

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Tell a new or strengthened leak, already counted in its finding."""

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Tell that the leak's handle was released after all, or is in use again."""

    def released(self, handles: Sequence[Handle]) -> None:
        """Tell what was given back since the last tick."""


class Findings:
    """The verdicts so far; only the detector writes here."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, Reason], Finding] = {}
        self.overflow = 0
        self._ids = itertools.count(1)

    def open(self, handle: Handle, reason: Reason, now: float, parts: tuple[str, ...] = ()) -> tuple[Leak, Finding]:
        """Make a leak of a handle, which holds `parts` in turn, and count it."""
        site = handle.site
        site.leaked = True
        leak = Leak(
            id=next(self._ids),
            handle=handle,
            reason=reason,
            fingerprint=sites.fingerprint(handle.kind, site),
            name=handle.label(),
            owner=owner.describe(handle),
            stack=sites.resolve(handle.stack or site.sample),
            holds=parts,
            acquired_at=handle.acquired_at,
            detected_at=handle.released_at or now,
        )
        return leak, self._count(leak)

    def strengthen(self, leak: Leak, reason: Reason, now: float) -> Finding:
        """Move a leak to a stronger reason."""
        self._leave(leak)
        leak.reason, leak.detected_at = reason, leak.handle.released_at or now
        return self._count(leak)

    def resolve(self, leak: Leak, now: float) -> Finding:
        """Close a leak whose handle was released, or used, later."""
        leak.resolved_at = now
        finding = self.of(leak)
        finding.open_leaks.pop(leak, None)
        finding.held_max = max(finding.held_max, leak.held)
        return finding

    def reopen(self, leak: Leak) -> None:
        """Accuse a handle again that was used in between: it is counted already."""
        leak.resolved_at = None
        self.of(leak).open_leaks[leak] = None

    def of(self, leak: Leak) -> Finding:
        """Return the finding that a leak is counted in."""
        return self.by_key.get((leak.fingerprint, leak.reason)) or Finding(leak, leak.reason, count=1)

    def _leave(self, leak: Leak) -> None:
        finding = self.of(leak)
        finding.open_leaks.pop(leak, None)
        finding.count -= 1
        if not finding.count:
            self.by_key.pop((leak.fingerprint, leak.reason), None)
        elif finding.first is leak:
            finding.first = next(iter(finding.open_leaks), leak)

    def _count(self, leak: Leak) -> Finding:
        key = (leak.fingerprint, leak.reason)
        finding = self.by_key.get(key)
        if finding is None:
            finding = Finding(leak, leak.reason)
            if len(self.by_key) < LIMIT:
                self.by_key[key] = finding
            else:
                self.overflow += 1
        finding.count += 1
        self._keep(finding, leak)
        return finding

    def _keep(self, finding: Finding, leak: Leak) -> None:
        """An abandoned leak stays for ever: one is kept to be shown, of the others the longest hold."""
        if leak.reason is not Reason.ABANDONED or not finding.open_leaks:
            finding.open_leaks[leak] = None
        finding.held_max = max(finding.held_max, leak.held)

"""One small pure class per verdict; the strongest that holds is the verdict."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from crawlo_otel_leaks.model import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable


class Facts(NamedTuple):
    """All that is known of one handle at one moment. Times are seconds; None means it has not happened."""

    age: float
    idle: float | None = None
    """Seconds since it was last seen used; None where use cannot be seen."""
    in_use: bool = False
    """Whether it was used since the last look, or something waits on it."""
    running: bool = False
    """Whether the function that acquired it is still being executed."""
    replaced: bool = False
    """Whether its owner has acquired at the same line since, as a loop does in its next round."""
    threshold: float = inf
    grace: float = 0.0
    owner_finished_for: float | None = None
    loop_closed_for: float | None = None
    scope_ended_for: float | None = None
    crowd: int = 0
    """Handles of the same site that are past their threshold, unmoved, and whose use cannot be seen."""
    abandoned: bool = False
    exiting: bool = False
    process: bool = False
    shared: bool = False
    """Used by others than who took it, or, of a kind made to be shared, the only one its site ever took."""
    part: bool = False
    """Whether another handle, which it is part of, answers for it."""
    owner_alive: bool = False
    """Whether a thread other than the main one, which acquired it, is still at work, or it is cut off at exit."""

    def past_grace(self, lasted: float | None) -> bool:
        """Whether a state has lasted through the grace time: retry before accusing."""
        return lasted is not None and lasted >= self.grace


class Rule(Protocol):
    """One verdict."""

    reason: Reason

    def holds(self, facts: Facts) -> bool:
        """Whether the facts amount to this verdict."""


class Abandoned:
    """The object was collected without release: certain."""

    reason = Reason.ABANDONED

    def holds(self, facts: Facts) -> bool:
        """Whether it was."""
        return facts.abandoned


class OwnerFinished:
    """Whoever took it is done, nobody has used it since, and it is still held."""

    reason = Reason.OWNER_FINISHED

    def holds(self, facts: Facts) -> bool:
        """Whether that lasted through the grace; what belongs to the process or to many is exempt."""
        at_hand = facts.running and not facts.replaced
        exempt = facts.process or facts.shared or facts.in_use or at_hand
        return not exempt and facts.past_grace(facts.owner_finished_for)


class LoopClosed:
    """The event loop that could have closed it is closed itself."""

    reason = Reason.LOOP_CLOSED

    def holds(self, facts: Facts) -> bool:
        """Whether that lasted through the grace."""
        return not facts.process and facts.past_grace(facts.loop_closed_for)


class ScopeEnd:
    """The monitored scope that took it has ended."""

    reason = Reason.SCOPE_END

    def holds(self, facts: Facts) -> bool:
        """Whether that lasted through the grace."""
        return not facts.process and facts.past_grace(facts.scope_ended_for)


class ProcessExit:
    """The interpreter exits and nobody is left who could release it."""

    reason = Reason.PROCESS_EXIT

    def holds(self, facts: Facts) -> bool:
        """Whether it exits; daemon threads cut off at work are not to blame."""
        return facts.exiting and not facts.process and not facts.owner_alive


class HeldTooLong:
    """Idle past its threshold; where use cannot be seen, only a crowd from one site is evidence."""

    reason = Reason.HELD_TOO_LONG
    crowd = 5

    def holds(self, facts: Facts) -> bool:
        """Whether it is."""
        if facts.process or facts.in_use or facts.running or facts.age <= facts.threshold:
            return False
        if facts.idle is None:
            return facts.crowd >= self.crowd
        return facts.idle > facts.threshold


class Slow:
    """Past its threshold but in use right now: told, never counted as a leak."""

    reason = Reason.SLOW

    def holds(self, facts: Facts) -> bool:
        """Whether it is."""
        return not facts.process and (facts.in_use or facts.running) and facts.age > facts.threshold


RULES: tuple[Rule, ...] = (
    Abandoned(),
    OwnerFinished(),
    LoopClosed(),
    ScopeEnd(),
    ProcessExit(),
    HeldTooLong(),
    Slow(),
)


def judge(facts: Facts, rules: Iterable[Rule] = RULES) -> Reason | None:
    """Return the strongest verdict that holds, None for a handle that is well, or that another answers for."""
    if facts.part:
        return None
    return next((rule.reason for rule in rules if rule.holds(facts)), None)

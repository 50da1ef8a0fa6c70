"""What everything else talks about: handles, sites, owners, leaks. Data alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from crawlo_otel_leaks.tenure import BEGUN, Tenure

if TYPE_CHECKING:
    import weakref
    from asyncio import Task
    from collections.abc import Iterable
    from threading import Thread
    from types import CodeType
    from typing import Any

    from opentelemetry.trace import Span, SpanContext

    from crawlo_otel_leaks.holds import Holds

    Stack = tuple[tuple[CodeType, int], ...]


class Progress(NamedTuple):
    """What can be seen from outside of a handle's use."""

    token: object = None
    """Differs from an earlier one when the handle was used in between."""
    untouched: bool | None = None
    """As it was at acquisition; None where that cannot be told."""
    visible: bool = True
    """False where it could also be in use without the token showing it."""


class Reason(str, Enum):
    """Why a handle is accused (`crawlo.leak.reason`), strongest first."""

    ABANDONED = "abandoned"
    OWNER_FINISHED = "owner_finished"
    LOOP_CLOSED = "loop_closed"
    SCOPE_END = "scope_end"
    PROCESS_EXIT = "process_exit"
    HELD_TOO_LONG = "held_too_long"
    SLOW = "slow"

    @property
    def strength(self) -> int:
        """Place in the order of confidence; 0 is certain."""
        return _ORDER[self]

    @property
    def is_leak(self) -> bool:
        """False for `slow` alone, which is told but never counted."""
        return self is not Reason.SLOW


_ORDER: Final = {reason: place for place, reason in enumerate(Reason)}
_STILL: Final = Progress()


class Frame(NamedTuple):
    """One resolved frame of an acquisition stack."""

    function: str
    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f'File "{self.file}", line {self.line}, in {self.function}'


class Site:
    """One place that acquires: its nearest user frames exactly, and one whole stack as a sample."""

    __slots__ = ("acquired", "fingerprint", "frames", "holds", "latest", "leaked", "modules", "process", "sample")

    def __init__(self, frames: Stack, modules: tuple[str, ...]) -> None:
        self.frames = frames
        self.modules = modules
        self.sample: Stack = frames
        self.acquired = 0
        self.latest: Handle | None = None
        self.leaked = False
        self.process = False
        self.holds: Holds | None = None
        self.fingerprint: str | None = None


SCOPED: Final[list[None]] = []
"""Empty until there is a scope: most programs have none, and need not look for the current one."""


@dataclass(eq=False)
class Scope:
    """A stretch of work that must give back what it takes: a spider run, a test, a user's `scope`."""

    name: str
    parent: Scope | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    ended_at: float | None = None
    """Monotonic seconds, None while it runs."""
    thorough: bool = False
    """Whether what a library opened within it, and keeps, must be given back too: so in a run that is a whole job."""

    def __post_init__(self) -> None:
        """From now on there may be a current one."""
        if not SCOPED:
            SCOPED.append(None)


class ThreadOwner:
    """Who a thread is, kept without keeping the thread."""

    __slots__ = ("ident", "is_main", "name", "ref")

    def __init__(self, ident: int, name: str, ref: weakref.ref[Thread] | None, *, is_main: bool) -> None:
        self.ident = ident
        self.name = name
        self.ref = ref
        self.is_main = is_main


class Handle(Tenure):
    """One acquired thing: what, where, since when and by whom. Never holds the user's object."""

    __slots__ = (
        "scope",
        "site",
        "span",
        "stack",
        "task",
        "task_name",
        "thread",
    )

    site: Site
    stack: Stack | None
    span: Span | None
    task: weakref.ref[Task[Any]] | None
    task_name: str | None
    thread: ThreadOwner
    scope: Scope | None
    name: str = ""
    elementary = False
    """Whether it may be part of another, which then answers for it: a file, a socket. Then it has a slot for that."""
    part_of: Handle | None = None
    """Of an elementary one: whose part it was when somebody last looked, or whose it is by the way it was acquired."""
    kept = False
    """Whether a library keeps it for itself, so that only a thorough scope's end asks for it back."""
    lasting = False
    """Whether it is kept for long by design, so that its age alone accuses none."""
    shareable = False
    """Whether one that a site took only once is presumed to be shared by design, as sessions are."""
    cut_off = False
    """Whether the interpreter's exit simply ends it, and accuses nobody."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if self.elementary:
            self.part_of = None  # type: ignore[misc]  # the slot is a subclass's
        if not BEGUN:
            self.released_at = None
            self.process = self.shared = False

    def join(self, holder: Handle | None) -> None:
        """Let another answer for it, or nobody; only an elementary one can."""
        self.part_of = holder  # type: ignore[misc]  # as above

    @property
    def held(self) -> float:
        """Seconds from acquisition to release; 0 while it is not released."""
        return (self.released_at or self.acquired_at) - self.acquired_at

    def label(self) -> str:
        """What a person calls it: a path, a pool, an origin; never a secret."""
        return self.name

    def progress(self) -> Progress:
        """Tell, without touching the host's object, whether it is being used."""
        return _STILL

    def busy(self) -> bool:
        """Whether an operation is waiting on it this very moment."""
        return False

    def single(self) -> bool:
        """Whether its site holds no second one, which makes a shareable one presumed to be shared."""
        return self.site.acquired == 1

    def loop_closed(self) -> bool:
        """Whether it is bound to an event loop that has been closed."""
        return False

    def let_go(self) -> object:
        """Leave the host's objects as they were before; what is returned is the handle's own affair."""
        return None

    def descriptors(self) -> Iterable[int]:
        """The open file descriptors that it explains, as far as reading attributes shows them."""
        return ()

    def referent(self) -> object | None:
        """The user's object while it lives, for a look at who names it; borrowed, never kept."""
        return None


class NamedHandle(Handle):
    """One that is called by a name of its own, rather than by what it is part of."""

    __slots__ = ("name",)

    def __init__(self, kind: str, name: str = "") -> None:
        super().__init__(kind)
        self.name = name


@dataclass(frozen=True)
class Owner:
    """Who acquired a handle, resolved for telling."""

    thread: str
    task: str | None = None
    spider: str | None = None
    run_id: str | None = None
    scope: str | None = None
    span: SpanContext | None = None
    span_recorded: bool = False

    def as_dict(self) -> dict[str, str | None]:
        """Return it as reports tell it; the span is told beside it."""
        names = ("spider", "run_id", "task", "thread", "scope")
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False)
class Leak:
    """A verdict on one handle."""

    id: int
    handle: Handle
    reason: Reason
    fingerprint: str
    name: str
    owner: Owner
    stack: tuple[Frame, ...]
    acquired_at: float
    """Monotonic seconds, as `detected_at` and `resolved_at`."""
    detected_at: float
    resolved_at: float | None = None
    holds: tuple[str, ...] = ()
    """What it holds in turn: a connection its socket and descriptor."""

    @property
    def kind(self) -> str:
        """The handle's kind."""
        return self.handle.kind

    @property
    def held(self) -> float:
        """Seconds from acquisition to release, or to the verdict while it is not released."""
        return (self.resolved_at or self.detected_at) - self.acquired_at

    @property
    def where(self) -> Frame:
        """The nearest frame of the user's own."""
        return self.stack[0] if self.stack else Frame("?", "?", 0)


@dataclass(eq=False)
class Finding:
    """All leaks of one fingerprint and reason: what a report has one entry for."""

    first: Leak
    """The leak it is shown by."""
    reason: Reason
    count: int = 0
    """Handles accused so far."""
    open_leaks: dict[Leak, None] = field(default_factory=dict)
    """Those not released, oldest verdict first."""
    held_max: float = 0.0
    announced: int = 0

    @property
    def open(self) -> int:
        """How many of its handles are still held; what was collected holds nothing any more."""
        return 0 if self.reason is Reason.ABANDONED else len(self.open_leaks)

    @property
    def resolved(self) -> bool:
        """Whether every leak in it was released later; what was abandoned never can be."""
        return not self.open_leaks

    def held(self, now: float) -> float:
        """Return the seconds of the longest hold in it; of what is still held, until `now`."""
        still = (leak.handle.released_at or now for leak in self.open_leaks)
        return max([self.held_max, *(end - leak.acquired_at for end, leak in zip(still, self.open_leaks, strict=True))])

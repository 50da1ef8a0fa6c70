"""Leaks and holds as spans inside the trace that acquired them, however long ago that was."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider, sampling
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from crawlo_otel_leaks import owner, semconv
from crawlo_otel_leaks.emitters import attributes
from crawlo_otel_leaks.emitters.clock import wall_ns
from crawlo_otel_leaks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from crawlo_otel_leaks.model import Finding, Handle, Leak
    from crawlo_otel_leaks.settings import Settings

EACH: Final = 100
"""Leaks of one finding that get a span each; of later ones those at powers of two."""


class Starters(SpanProcessor):
    """Notes on each span which task or thread started it, so that its end can be told from an inherited one's."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Leave the note; called by the SDK."""
        owner.note_start(span, parent_context)


_noted: Final[weakref.WeakSet[TracerProvider]] = weakref.WeakSet()
"""Providers that have a `Starters` already: a processor cannot be removed again."""


class Spans:
    """A sink that writes spans, each with the start it had and the end it has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._provider: object = None
        self._plain = trace.get_tracer(semconv.SCOPE, __version__)
        self._always = self._plain

    def attach(self) -> None:
        """Follow the global provider, which a program may set up after us."""
        provider = trace.get_tracer_provider()
        if provider is self._provider or not isinstance(provider, TracerProvider):
            return
        self._provider = provider
        if provider not in _noted:
            _noted.add(provider)
            provider.add_span_processor(Starters())
        self._plain = provider.get_tracer(semconv.SCOPE, __version__)
        # Kept, for a fork renews the resource of providers that live.
        self._unsampled_too = _unsampled_too(provider)
        self._always = self._unsampled_too.get_tracer(semconv.SCOPE, __version__)

    def opened(self, leak: Leak, finding: Finding) -> None:
        """Write `leak {kind}` from acquisition to detection, child of the acquiring span."""
        count = finding.count
        tracer = self._tracer(leak.owner.span)
        if tracer is None or not leak.reason.is_leak or (count > EACH and count & (count - 1)):
            return
        span = tracer.start_span(
            f"leak {leak.kind}",
            context=_under(leak.owner.span),
            kind=SpanKind.INTERNAL,
            attributes=attributes.of_leak(leak, count),
            start_time=wall_ns(leak.acquired_at),
        )
        text = attributes.printable(f"{leak.kind} {leak.name} {leak.reason.value}")
        span.set_status(Status(StatusCode.ERROR, text))
        span.end(wall_ns(leak.detected_at))

    def resolved(self, leak: Leak, finding: Finding) -> None:
        """Nothing: the handle's hold span, written at its release, tells the rest."""

    def released(self, handles: Sequence[Handle]) -> None:
        """Write `hold {kind}` for the kinds, lengths and parents that are worth a span."""
        for handle in handles:
            if self._worth_a_span(handle):
                self._hold(handle)

    def _worth_a_span(self, handle: Handle) -> bool:
        chosen = handle.kind in self._settings.hold_spans and handle.held >= self._settings.hold_min
        return chosen and handle.span is not None and bool(handle.span.get_span_context().trace_flags.sampled)

    def _tracer(self, parent: SpanContext | None) -> Tracer | None:
        """Return who writes a leak below `parent`: None where it is not wanted; without a trace, the host's sampler."""
        if self._settings.leak_spans == "all":
            return self._always
        if self._settings.leak_spans == "off" or (parent is not None and not parent.trace_flags.sampled):
            return None
        return self._plain if parent is None else self._always

    def _hold(self, handle: Handle) -> None:
        told = owner.describe(handle)
        span = self._plain.start_span(
            f"hold {handle.kind}",
            context=_under(told.span),
            attributes=attributes.of_handle(handle.kind, handle.label(), told),
            start_time=wall_ns(handle.acquired_at),
        )
        span.end(wall_ns(handle.acquired_at + handle.held))


def _under(parent: SpanContext | None) -> Context | None:
    """Return a context below `parent`, marked as sampled so that parent-based samplers let the child through."""
    if parent is None:
        return None
    flags = TraceFlags(parent.trace_flags | TraceFlags.SAMPLED)
    marked = SpanContext(parent.trace_id, parent.span_id, parent.is_remote, flags, parent.trace_state)
    return trace.set_span_in_context(NonRecordingSpan(marked))


def _unsampled_too(provider: TracerProvider) -> TracerProvider:
    """Return a provider that shares the processors but drops nothing: a ratio sampler looks at no flag."""
    return TracerProvider(
        sampler=sampling.ALWAYS_ON,
        resource=provider.resource,
        shutdown_on_exit=False,
        active_span_processor=provider._active_span_processor,  # noqa: SLF001  (no public way to share it)
        id_generator=provider.id_generator,
        span_limits=provider._span_limits,  # noqa: SLF001  (as above)
    )

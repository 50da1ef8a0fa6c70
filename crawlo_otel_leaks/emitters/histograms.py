"""Many values at once into a histogram: one by one, the SDK takes 4 us of the interpreter for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.metrics import Histogram

    from crawlo_otel_leaks.durations import Batch

FIRST: Final = 1
"""Values that the SDK records itself, so that there is something of its own to add to. More would get no exemplars
either: where we record, on the detector's thread, no span is current."""
_KNOWN: Final = "_ExplicitBucketHistogramAggregation"


def record(histogram: Histogram, batch: Batch, attributes: Mapping[str, str]) -> None:
    """Record all values, exactly as if each were recorded by itself.

    OpenTelemetry has no call for that. The SDK's sums are added to where they are found as in 1.40 to 1.45 and
    explicit buckets are what every reader keeps; else they are recorded one by one.
    """
    for _ in range(min(FIRST, len(batch))):
        histogram.record(batch.pop(), dict(attributes))
    if not len(batch):
        return
    try:
        sums = list(_sums(histogram, attributes))
    except (AttributeError, TypeError, ValueError, LookupError):  # another SDK, or another release of it
        sums = []
    if sums:
        for one in sums:
            _add(one, batch)
    else:
        for value in batch.values():
            histogram.record(value, dict(attributes))


def _sums(histogram: Any, attributes: Mapping[str, str]) -> Iterator[Any]:  # noqa: ANN401  (private to the SDK)
    """Yield what each reader keeps of the attributes; raise LookupError if one keeps anything else."""
    instrument = getattr(histogram, "_real_instrument", None) or histogram  # made before there was a provider
    for storage in list(instrument._measurement_consumer._reader_storages.values()):  # noqa: SLF001  (as said above)
        for match in storage._instrument_view_instrument_matches[instrument]:  # noqa: SLF001
            keys = match._view._attribute_keys  # noqa: SLF001
            kept = {key: value for key, value in attributes.items() if keys is None or key in keys}
            every = list(match._attributes_aggregation.values())  # noqa: SLF001
            (found,) = (one for one in every if dict(one._attributes) == kept)  # noqa: SLF001
            if type(found).__name__ != _KNOWN or not isinstance(found._value, (list, type(None))):  # noqa: SLF001
                raise LookupError(f"found {type(found).__name__}, expected {_KNOWN}")
            yield found


def _add(one: Any, batch: Batch) -> None:  # noqa: ANN401  (as above)
    counts, (total, least, greatest) = batch.counts(one._boundaries), batch.sums()  # noqa: SLF001
    with one._lock:  # noqa: SLF001
        before = one._value or [0] * len(counts)  # noqa: SLF001
        one._value = [there + new for there, new in zip(before, counts, strict=True)]  # noqa: SLF001
        one._sum += total  # noqa: SLF001
        if one._record_min_max:  # noqa: SLF001
            one._min, one._max = min(one._min, least), max(one._max, greatest)  # noqa: SLF001

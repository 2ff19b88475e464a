"""A loss that is the mean of the losses of its parts, each divided by its own number of valid elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.diagnosis.inside.blocks import CLOSE
from conformance.diagnosis.signatures.means import MEAN_OF_MEANS
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import Cause

FAR = 1e-6


def mean_of_parts(wide: Intermediates, twin: Intermediates, losses: Sequence[float], axis: str) -> Iterator[Cause]:
    """The loss of the step is the mean of the losses that one device has on the rows of each position alone.

    Only where that is not the right loss, which it is where all parts count equally. Nor where the right loss is their
    sum: then nothing divides by its own elements, and a factor is lost.
    """
    loss, right = _loss(wide), _loss(twin)
    if not losses or loss is None or right is None:
        return
    total, mean = sum(losses), sum(losses) / len(losses)
    if abs(right - total) <= CLOSE * abs(total):
        return
    if abs(loss - mean) <= CLOSE * abs(mean) and abs(right - mean) > FAR * abs(right):
        basis = f"the loss is the mean of what one device has on each of {len(losses)} parts of the rows"
        yield Cause(cause=MEAN_OF_MEANS, axis=axis, confidence=0.95, basis=basis)


def _loss(step: Intermediates) -> float | None:
    """The last value that the loss is made of, on the first rank that has it."""
    numbers = step.observed.get("loss", ())
    held = next((value.values for value in step.values if numbers and value.number == numbers[-1]), {})
    return float(next(iter(held.values())).ravel()[0]) if held else None

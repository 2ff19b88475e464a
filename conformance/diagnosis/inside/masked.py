"""What a mask hides or a selection chooses, and what is not masked at all, by the numbers of one operation."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.exchanges import line
from conformance.diagnosis.inside.hidden import Hidden, hidden
from conformance.diagnosis.inside.kinds import CUTS
from conformance.diagnosis.inside.partial_sums import is_summed_later
from conformance.diagnosis.inside.sureness import FOUND
from conformance.diagnosis.inside.unmasked import unmasked
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


def of_mask(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Other elements are hidden than on one device; an extreme of what is hidden is no mask itself.

    Nor is a zero, but where the same line puts some on one device: part of a ring's result has none there. Another
    program, which has no lines in common, is that of one device too.
    """
    if compared.is_extreme(first):
        return
    zeros = (0.0,) if compared.counterparts(first) or compared.is_apart else ()
    mask = hidden(first, compared.matcher, zeros)
    if mask is not None:
        yield _masked(compared, first, mask)


def of_indices_mask(compared: Compared, value: Intermediate) -> Iterator[Cause]:
    """Whole numbers of which others are let through than on one device: a smallest number stands for what is hidden."""
    mask = hidden(value, compared.counting, [min(float(block.min(initial=0.0)) for block in value.values.values())])
    if mask is not None:
        yield _masked(compared, value, mask)


def _masked(compared: Compared, value: Intermediate, mask: Hidden) -> Cause:
    that = ", that of another block" if mask.misplaced else ""
    words = f"another mask than on one device{that}: {spoken(value)}{compared.phase_of(value)}"
    if mask.chosen:
        words = f"another element of a row is chosen than on one device: {spoken(value)}{picks(compared, value)}"
    belongs = "; every rank hides what one device hides in another block" if mask.misplaced else ""
    return Cause(cause=words, axis=None, confidence=FOUND, basis=f"{mask.counts}; all others are right{belongs}")


def picks(compared: Compared, first: Intermediate) -> str:
    """Where the indices of an operation that picks elements go wrong."""
    indices = list(compared.indices(first))
    if not indices:
        return ", whose indices are wrong"
    until = f" to {spoken(indices[-1])}" if len(indices) > 1 else ""
    return f", whose indices part {'from' if until else 'at'} {spoken(indices[0])}{until}"


def of_unmasked(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """What a rank does not own goes into the sum all the same."""
    shows = first.operation not in CUTS and not compared.is_extreme(first)  # of that one rank always has the right one
    axis = unmasked(first, compared.matcher, compared.mesh) if shows else None
    if axis is not None and is_summed_later(compared, first, (axis,), as_it_is=True):
        words = f"not masked: ranks of {axis} that do not own an element add something else to the sum over {axis}"
        basis = f"of what {spoken(first)} makes, each element is right on a rank of {axis}, and not zero on the others"
        said = f"{words}, at {line(first.place)}"
        yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)

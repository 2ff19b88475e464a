"""First divergence inside the step: the first value that one device does not have, made of values that it has.

The values of the failing program are compared with those of the same program on one device, where it is right, else
with the reference's. A value that is found there is right; so is one of which something right is made, since another
program may well compute it another way. Of the others, the first on the way to the tensor that diverges is where the
fault lies: a partial sum that is used as if it were whole, a collective that does not combine what it is given, or an
operation of which the line is all that can be said. A collective that gives something else than its kind says is told
first: its operands and results alone show that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.exchanges import broken_exchange, line
from conformance.diagnosis.inside.kinds import REDUCTIONS
from conformance.diagnosis.inside.masked import of_indices_mask, of_mask
from conformance.diagnosis.inside.missing import missing_term
from conformance.diagnosis.inside.operations import PARTED_INDICES, of_operation
from conformance.diagnosis.inside.partial_sums import is_part, lacks_reduction
from conformance.diagnosis.inside.reductions import adds_copies, reduced
from conformance.diagnosis.inside.row_order import behind_rows
from conformance.diagnosis.inside.sureness import FOUND, LINE
from conformance.diagnosis.signatures.scale import TWICE
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause


def first_divergence(wide: Intermediates, twin: Intermediates, mesh: Mesh, tensor: str | None) -> Iterator[Cause]:
    """Causes that the values of one step show.

    wide    of the failing case, with the mutation in it
    twin    of one device
    tensor  the first observation to diverge
    """
    broken = list(broken_exchange(wide, mesh))
    if broken:
        yield from broken
        return
    compared = Compared(wide, twin, mesh, tensor)
    firsts = sorted(compared.firsts(), key=compared.is_filled)
    if not firsts:
        yield from _left_partial(compared, tensor)
        yield from missing_term(compared)
        yield from _of_indices(compared)
        return
    yield from _of_collective(compared, firsts[0]) if firsts[0].axes else _of_first(compared, firsts[0])
    masks = (cause for later in firsts[1:] for cause in of_mask(compared, later))
    yield from islice(masks, 1)


def _of_first(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Why an operation gives what is wrong; where nothing says why, and its rows are right, what comes behind it."""
    causes = list(of_operation(compared, first))
    if all(cause.place or cause.confidence < FOUND for cause in causes):
        causes = list(behind_rows(compared, first)) or causes
    yield from causes


def _of_indices(compared: Compared) -> Iterator[Cause]:
    """All is right but whole numbers, which many values are by chance: the first that one device does not have.

    Nothing is said of them where a message brings something wrong of which nobody has seen what it is made of.
    """
    indices = [] if compared.lacks_senders() else list(compared.indices())
    masked = (cause for value in indices for cause in of_indices_mask(compared, value))
    yield from islice(masked, 1)
    if indices:
        first, last = indices[0], indices[-1]
        until = f" to {spoken(last)}" if last is not first else ""
        said = f"whole numbers part from what one device has: {spoken(first)}{until}{compared.phase_of(first)}"
        basis = f"{PARTED_INDICES}; all else on the way is right"
        yield Cause(cause=said, axis=None, confidence=LINE, basis=basis, place=True)


def _left_partial(compared: Compared, tensor: str | None) -> Iterator[Cause]:
    """All is right but that the tensor itself is left a partial sum."""
    for number in compared.wide.observed.get(tensor or "", ()):
        match = compared.matches.get(number)
        if match is not None and is_part(compared, number):
            yield lacks_reduction(compared.values[number], match, "is left as it is")
            return


def _of_collective(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """What a collective does with its operand, which is right."""
    source = compared.values[max(first.sources)] if first.sources else None
    said = f"{first.operation} over {' and '.join(first.axes)} at {line(first.place)}"
    basis = f"the operand of {said} is right, its result is not"
    words, axis = None, first.axes[0]
    if source is not None and first.operation in REDUCTIONS:
        words, axis = reduced(first, source, compared.matches[source.number], compared.mesh)
    if words is None and source is not None and adds_copies(first, source, compared.mesh):
        words = TWICE
    if words is None and compared.matches[first.number] is not None:
        words = "another value, stale perhaps, comes out of a collective"
    if words is not None:
        yield Cause(cause=f"{words}: {said}", axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
    else:
        where = f"parts from what one device has: {said}{compared.phase_of(first)}"
        yield Cause(cause=where, axis=axis, confidence=LINE, axis_confidence=LINE, basis=basis, place=True)

"""What an operation does wrong of which the operands are right: each explanation is checked against the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from conformance.diagnosis.inside.blocks import whole
from conformance.diagnosis.inside.canonical import of_orders
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.displaced import displaced
from conformance.diagnosis.inside.exchanges import line
from conformance.diagnosis.inside.filled_up import filling_counts
from conformance.diagnosis.inside.flow import Flow
from conformance.diagnosis.inside.interleaved import of_interleaved
from conformance.diagnosis.inside.kinds import ARRANGED, CHOICES, MOVES, SCALES, SECTIONS
from conformance.diagnosis.inside.left_out import of_done_besides, of_left_out, of_lone_term
from conformance.diagnosis.inside.local_statistics import of_local_statistic
from conformance.diagnosis.inside.masked import of_mask, of_unmasked, picks
from conformance.diagnosis.inside.moved import of_moved
from conformance.diagnosis.inside.multiples import constant, multiple_of
from conformance.diagnosis.inside.operands import of_another_value
from conformance.diagnosis.inside.owed import first_owed
from conformance.diagnosis.inside.parameters import of_another_parameter
from conformance.diagnosis.inside.partial_sums import is_part, of_partial
from conformance.diagnosis.inside.powers import of_power
from conformance.diagnosis.inside.rearranged import rearranged
from conformance.diagnosis.inside.reductions import narrowed
from conformance.diagnosis.inside.roles import of_role
from conformance.diagnosis.inside.shifted import of_positions
from conformance.diagnosis.inside.sureness import FOUND, LINE, ORDER
from conformance.diagnosis.inside.taken import of_taken
from conformance.diagnosis.inside.unbiased import of_variance
from conformance.diagnosis.inside.way import made_of
from conformance.diagnosis.signatures.scale import MEAN, TWICE, near
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

MOST_MOVED = 6  # values that are looked through behind the first wrong one
PARTED_INDICES = "whole numbers that it is made of are among the values of one device, it is not"
PARTED = "what it is made of is among the values of one device, it and all that is made of it are not"


def of_operation(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """The causes that fit, and the line."""
    before = (value for number, value in compared.values.items() if number < first.number)
    for dtype in narrowed(first, [compared.values[source] for source in first.sources], before):
        words = f"computed or reduced in {dtype}: {first.operation} at {line(first.place)}"
        basis = f"what it makes are numbers that {dtype} has, what it is made of are not"
        yield Cause(cause=words, axis=None, confidence=FOUND, basis=basis)
        return
    factor = _factor(compared, first)
    partial = [number for number in first.sources if is_part(compared, number)]
    if factor is not None:
        yield from _scaled(compared, first, factor)
    elif partial:
        yield of_partial(compared, first, _least_summed(compared, partial))
        return
    else:
        yield from _of_elements(compared, first)
    if first.place:
        yield _parted_at(compared, first, factor)


def _least_summed(compared: Compared, partial: Sequence[int]) -> int:
    """Of several partial sums in one operation, the one that is partial over the fewest axes: it was summed halfway."""
    matches = {number: compared.matches[number] for number in partial}
    return min(partial, key=lambda n: (0 if (match := matches[n]) is None else len(match.partial), -n))


def _of_elements(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """What is done to its operands otherwise; where that is nothing known, what it does with their elements."""
    flow = Flow(compared)
    explained = (
        of_orders(compared, first),
        of_another_parameter(flow, first),
        of_left_out(flow, first),
        of_done_besides(flow, first),
        of_variance(compared, first),
        of_power(flow, first),
    )
    for causes in map(list, (*explained, of_interleaved(flow, first), of_positions(compared, first))):
        if causes:
            yield from causes
            return
    others = (_of_choice(compared, first), of_lone_term(flow, first), of_role(flow, first))
    for causes in map(list, (*others, _displaced_later(compared, first))):
        if causes:
            yield from causes
            return


def _of_choice(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Which elements it takes, counts, hides or places wrongly."""
    yield from of_another_value(compared, first)
    yield from of_local_statistic(compared, first)
    yield from _filling_counts(compared, first)
    yield from of_mask(compared, first)
    yield from of_unmasked(compared, first)
    last = compared.joined(compared.whole_buffer(first))
    yield from _displaced(compared, last)
    yield from of_taken(compared, first)
    yield from _cut_across(compared, last)
    yield from _rearranged(compared, last) if last.operation not in MOVES else of_moved(compared, last)


def _parted_at(compared: Compared, first: Intermediate, factor: float | None) -> Cause:
    """Where it parts from one device; where that has no counterpart of its own, up to the first value that has."""
    times = f", {factor:.4g} times what it should be" if factor is not None else ""
    last = first_owed(compared, first)
    until = f" to {spoken(last)}" if last.place and last.number != first.number else ""
    taken = picks(compared, first) if first.operation in CHOICES and not until else ""
    said = f"parts from what one device has: {'from ' if until else ''}{spoken(first)}{until}{taken}"
    basis = f"{PARTED}{f'; on the way lie {compared.lines(first, last)}' if until else ''}"
    return Cause(cause=f"{said}{compared.phase_of(first)}{times}", axis=None, confidence=LINE, basis=basis, place=True)


def _filling_counts(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """What fills the last shard up gets into a sum; an extreme that a rank takes of its own part is none."""
    for number in () if compared.is_extreme(first) else first.sources:
        source = compared.values[number]
        axis = filling_counts(first, source, compared.matches[number], compared.matcher, compared.mesh)
        if axis:
            words = f"what fills the last shard of {axis} up is not masked: it is counted by {spoken(first)}"
            basis = f"without those elements of what {spoken(source)} makes, the sum is what one device has"
            yield Cause(cause=words, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
            return


def _displaced(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Right blocks on the wrong ranks."""
    displacement = displaced(first, compared.matcher, compared.mesh)
    if displacement is not None:
        words, axis = displacement
        basis = f"what {spoken(first)} makes are blocks of a value of one device, on other ranks than theirs"
        said = f"{words}, at {line(first.place)}"
        yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)


def _displaced_later(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """What is moved on from there, or the first value that both programs must have."""
    moved = (value for value in made_of(compared.wide.values, first) if value.operation in ARRANGED)
    for value in (*islice(moved, MOST_MOVED), first_owed(compared, first)):
        causes = list(_displaced(compared, value))
        if causes:
            yield from causes
            return


def _rearranged(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Right elements in another order."""
    operands = [compared.values[source] for source in first.sources]
    rearrangement = rearranged(first, operands, compared.matcher, compared.mesh)
    if rearrangement is not None:
        words, axis = rearrangement
        basis = f"slice by slice, what {spoken(first)} makes is right, in another order"
        said = f"{words}, at {line(first.place)}"
        yield Cause(cause=said, axis=axis, confidence=FOUND if axis else ORDER, basis=basis)


def _cut_across(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """One of the parts into which a rank cuts its own block, of which one device has none: but for microbatches."""
    cuts = len(first.sources) == 1 and first.operation in SECTIONS
    source = compared.values[first.sources[0]] if cuts else None
    match = None if source is None else compared.matches[source.number]
    if source is None or match is None or match.sections or compared.is_of_batch(match):
        return
    made, of = whole(first), whole(source)
    for axis, dim in match.dims:
        if made.ndim == of.ndim and made.shape[dim] < of.shape[dim] == _cut_in_all(compared, source, dim):
            words = f"the sections of a fused value are cut across: {axis} divides dim {dim} of it, and every rank cuts"
            basis = (
                f"what {spoken(source)} makes is a block of what one device has; no section of it there has this part"
            )
            said = f"{words} its own block, at {line(first.place)}"
            yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
            return


def _cut_in_all(compared: Compared, source: Intermediate, dim: int) -> int:
    """How much of a dim the parts have together that are cut out of a value: all of it, unless they are edges."""
    parts = (v for v in compared.values.values() if v.sources == (source.number,) and v.operation in SECTIONS)
    return sum(whole(part).shape[dim] for part in parts if whole(part).ndim == whole(source).ndim)


def _scaled(compared: Compared, first: Intermediate, factor: float) -> Iterator[Cause]:
    """A factor that is the size of an axis; no sum, where it is that of a product in the update."""
    basis = f"what {spoken(first)} makes is {factor:.6g} times what one device has there"
    if _is_rate(compared, first):
        yield _another_number(compared, first, factor, basis)
        return
    sizes = [(axis, size) for axis, size in compared.mesh.sizes if size > 1]
    whole_sizes = [(a, words) for a, n in sizes for p, words in ((1, TWICE), (-1, MEAN)) if near(factor, float(n) ** p)]
    for axis, words in whole_sizes:
        said = f"{words}, at {line(first.place)}"
        yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=0.6, basis=basis)
    if not whole_sizes and first.operation in SCALES:
        yield _another_number(compared, first, factor, basis)


def _another_number(compared: Compared, first: Intermediate, factor: float, basis: str) -> Cause:
    """Of a factor that is the root of the size of an axis, that is said."""
    roots = [
        (axis, f", {'' if power > 0 else '1 by '}the root of the size of {axis}")
        for axis, size in compared.mesh.sizes
        for power in (0.5, -0.5)
        if size > 1 and near(factor, float(size) ** power)
    ]
    root = roots[0][1] if len(roots) == 1 else ""
    said = f"multiplied by another number than on one device, {factor:.4g} times that{root}: {spoken(first)}"
    return Cause(cause=said, axis=None, confidence=FOUND, basis=f"{basis}, all of it")


def _is_rate(compared: Compared, first: Intermediate) -> bool:
    """A product in the update, where gradients are observed, and an update is the first tensor to diverge."""
    of_update = (compared.tensor or "").startswith("updates/") and compared.phase_of(first) == ", update"
    seen = any(name.startswith("gradients/") for name in compared.wide.observed)
    return of_update and seen and first.operation in ("mul", "div")


def _factor(compared: Compared, value: Intermediate) -> float | None:
    """A constant by which all blocks differ from a right operand, or from what the line makes on one device.

    From an operand only where the line leaves its like as it is on one device: a mean divides there too.
    """
    counterparts = compared.counterparts(value)
    if counterparts and all(_leaves_alone(compared.twin, counterpart) for counterpart in counterparts):
        for source in value.sources:
            if compared.matches[source] is not None and value.values.keys() == compared.values[source].values.keys():
                factor = constant(value.values, compared.values[source].values)
                if factor is not None:
                    return factor
    for counterpart in counterparts:
        factor = multiple_of(compared.matcher, value, counterpart)
        if factor is not None:
            return factor
    return None if counterparts else _of_buffer(compared, value)


def _of_buffer(compared: Compared, value: Intermediate) -> float | None:
    """By what it scales a buffer of right values, which one device leaves as they are."""
    sources = [compared.values[number] for number in value.sources]
    if value.operation not in SCALES or len(sources) != 1 or not compared.is_put_together(sources[0]):
        return None
    return constant(value.values, sources[0].values) if value.values.keys() == sources[0].values.keys() else None


def _leaves_alone(program: Intermediates, value: Intermediate) -> bool:
    """Whether it is no multiple of what it is made of, but for 1."""
    sources = (source for source in program.values if source.number in value.sources)
    return all(constant(value.values, source.values) is None for source in sources)

"""First divergence inside the step: the first value that one device does not have, made of values that it has.

The values of the failing program are compared with those of the same program on one device, where it is right, else
with the reference's. A value that is found there is right; so is one of which something right is made, since another
program may well compute it another way. Of the others, the first on the way to the tensor that diverges is where the
fault lies: a partial sum that is used as if it were whole, a collective that does not combine what it is given, or an
operation of which the line is all that can be said. A collective that gives something else than its kind says is told
first: its operands and results alone show that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.exchanges import broken_exchange, line
from conformance.diagnosis.matching import Match, Matcher, is_trivial
from conformance.diagnosis.reductions import REDUCTIONS, narrowed, reduced
from conformance.diagnosis.scale import MEAN, TWICE, near
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

FOUND = 0.9  # how sure what values show of an operation is
LINE = 0.84  # how sure a line is: that can be seen, but a right value may have no counterpart on one device
PARTED = "what it is made of is among the values of one device, it and all that is made of it are not"


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
    compared = _Compared(wide, twin, mesh, tensor)
    first = compared.first()
    if first is None:
        yield from compared.left_partial(tensor)
    elif first.axes:
        yield from compared.of_collective(first)
    else:
        yield from compared.of_operation(first)


class _Compared:
    """Every value on the way to a tensor, matched; of the whole step where it is none of its observations."""

    def __init__(self, wide: Intermediates, twin: Intermediates, mesh: Mesh, tensor: str | None) -> None:
        self.wide, self.twin, self.mesh = wide, twin, mesh
        self.matcher = Matcher(twin, mesh)
        self.values = {value.number: value for value in wide.values}
        self.way = self._way(wide.observed.get(tensor or "", tuple(self.values)))
        self.matches: dict[int, Match | None] = {n: self.matcher.match(self.values[n]) for n in self.way}
        self.right = self._right()

    def _right(self) -> set[int]:
        """The values on the way that were found, all that they are made of, and constants."""
        right: set[int] = set()
        for number in sorted(self.way, reverse=True):
            value = self.values[number]
            constant = not value.sources and all(block.size == 1 for block in value.values.values())
            if self.matches[number] is not None or number in right:
                right.update((number, *value.sources))
            elif constant:
                right.add(number)
        return right

    def first(self) -> Intermediate | None:
        """The first wrong value on the way that is made of right ones alone."""
        for number in sorted(self.way):
            value = self.values[number]
            if self._exchanged(value):
                return value
            if number in self.right:
                continue
            held = next(iter(value.values.values()), np.empty(0))
            if not is_trivial(held) and all(source in self.right for source in value.sources):
                return value
        return None

    def _way(self, ends: tuple[int, ...]) -> set[int]:
        way, pending = set(), [number for number in ends if number in self.values]
        while pending:
            number = pending.pop()
            if number not in way:
                way.add(number)
                pending += [source for source in self.values[number].sources if source in self.values]
        return way

    def left_partial(self, tensor: str | None) -> Iterator[Cause]:
        """All is right but that the tensor itself is left a partial sum."""
        for number in self.wide.observed.get(tensor or "", ()):
            match = self.matches.get(number)
            if match is not None and match.partial:
                yield self._partial(self.values[number], match, "is left as it is")
                return

    def _partial(self, value: Intermediate, match: Match | None, said: str) -> Cause:
        partial = () if match is None else match.partial
        axes = " and ".join(partial)
        return Cause(
            cause=f"reduction missing: a partial sum over {axes} {said}",
            axis=partial[0],
            confidence=FOUND,
            axis_confidence=FOUND,
            basis=f"what {_spoken(value)} makes adds up, over {axes}, to what one device has",
        )

    def of_operation(self, first: Intermediate) -> Iterator[Cause]:
        before = (value for number, value in self.values.items() if number < first.number)
        for dtype in narrowed(first, [self.values[source] for source in first.sources], before):
            words = f"computed or reduced in {dtype}: {first.operation} at {line(first.place)}"
            basis = f"what it makes are numbers that {dtype} has, what it is made of are not"
            yield Cause(cause=words, axis=None, confidence=FOUND, basis=basis)
            return
        factor = self._factor(first)
        partial = [number for number in first.sources if (match := self.matches[number]) is not None and match.partial]
        if factor is not None:
            yield from self._scaled(first, factor)
        elif partial:
            number, said = max(partial), f"is used as if it were whole, at {line(first.place)}"
            yield self._partial(self.values[number], self.matches[number], said)
            return
        if first.place:
            times = f", {factor:.4g} times what it should be" if factor is not None else ""
            words = f"parts from what one device has: {_spoken(first)}, {first.phase} pass{times}"
            yield Cause(cause=words, axis=None, confidence=LINE, basis=PARTED, place=True)

    def _scaled(self, first: Intermediate, factor: float) -> Iterator[Cause]:
        """A factor that is the size of an axis."""
        basis = f"what {_spoken(first)} makes is {factor:.6g} times what one device has there"
        for axis, size in self.mesh.sizes:
            for power, words in ((1, TWICE), (-1, MEAN)):
                if size > 1 and near(factor, float(size) ** power):
                    said = f"{words}, at {line(first.place)}"
                    yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=0.6, basis=basis)

    def _factor(self, value: Intermediate) -> float | None:
        """A constant by which all blocks differ from a right operand, or from what the line makes on one device."""
        for source in value.sources:
            if self.matches[source] is not None and value.values.keys() == self.values[source].values.keys():
                factor = _constant(value.values, self.values[source].values)
                if factor is not None:
                    return factor
        for whole in self.twin.values:
            if (whole.operation, whole.place, whole.phase) != (value.operation, value.place, value.phase):
                continue
            for dims in self.matcher.placements(whole, next(iter(value.values.values())).shape):
                factor = _constant(value.values, {r: self.matcher.block(whole, dims, r) for r in value.values})
                if factor is not None:
                    return factor
        return None

    def of_collective(self, first: Intermediate) -> Iterator[Cause]:
        """What a collective does with its operand, which is right."""
        source = self.values[max(first.sources)] if first.sources else None
        spoken = f"{first.operation} over {' and '.join(first.axes)} at {line(first.place)}"
        basis = f"the operand of {spoken} is right, its result is not"
        words, axis = None, first.axes[0]
        if source is not None and first.operation in REDUCTIONS:
            words, axis = reduced(first, source, self.matches[source.number], self.mesh)
        if words is None and self.matches[first.number] is not None:
            words = "another value, stale perhaps, comes out of a collective"
        if words is not None:
            yield Cause(cause=f"{words}: {spoken}", axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
        else:
            said = f"parts from what one device has: {spoken}, {first.phase} pass"
            yield Cause(cause=said, axis=axis, confidence=LINE, axis_confidence=LINE, basis=basis, place=True)

    def _exchanged(self, value: Intermediate) -> bool:
        """An all-reduce of one right value that gives another one."""
        if value.operation != "all_reduce" or len(value.sources) != 1:
            return False
        given, made = self.matches[value.sources[0]], self.matches[value.number]
        if given is None or made is None:
            return False
        operand, result = self.matcher.whole(given), self.matcher.whole(made)
        return operand.shape != result.shape or not np.allclose(operand, result, rtol=1e-9, atol=0)


def _constant(values: Mapping[int, np.ndarray], blocks: Mapping[int, np.ndarray]) -> float | None:
    held = np.concatenate([values[rank].ravel() for rank in values])
    right = np.concatenate([blocks[rank].ravel() for rank in values])
    if held.size != right.size or not np.isfinite(held).all() or not np.isfinite(right).all():
        return None
    power = float(right @ right)
    factor = float(held @ right) / power if power and held.size > 1 else 0.0
    close = 1e-9 * float(np.abs(held).max(initial=0.0))
    same = bool(np.abs(held - factor * right).max(initial=0.0) <= close)
    return factor if same and factor and abs(factor - 1) > 1e-6 else None


def _spoken(value: Intermediate) -> str:
    return f"{value.operation} at {line(value.place)}"

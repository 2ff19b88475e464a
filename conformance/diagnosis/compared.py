"""The values of a failing step beside those of one device: which are right, and which is the first that is not."""

from __future__ import annotations

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.exchanges import line
from conformance.diagnosis.matching import Match, Matcher, is_trivial
from conformance.evidence.intermediates import Intermediate, Intermediates


class Compared:
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

    def phase_of(self, value: Intermediate) -> str:
        """The pass that it belongs to, as words to add; in JAX an update is known by standing behind all gradients."""
        if value.phase != "forward":
            return f", {value.phase}{' pass' if value.phase == 'backward' else ''}"
        backward = [other.number for other in self.wide.values if other.phase == "backward"]
        if not backward or value.number < min(backward):
            return ", forward pass"
        return ", update" if value.number > max(backward) else ""

    def _way(self, ends: tuple[int, ...]) -> set[int]:
        way, pending = set(), [number for number in ends if number in self.values]
        while pending:
            number = pending.pop()
            if number not in way:
                way.add(number)
                pending += [source for source in self.values[number].sources if source in self.values]
        return way

    def _exchanged(self, value: Intermediate) -> bool:
        """An all-reduce of one right value that gives another one."""
        if value.operation != "all_reduce" or len(value.sources) != 1:
            return False
        given, made = self.matches[value.sources[0]], self.matches[value.number]
        if given is None or made is None:
            return False
        operand, result = self.matcher.whole(given), self.matcher.whole(made)
        return operand.shape != result.shape or not np.allclose(operand, result, rtol=1e-9, atol=0)


def spoken(value: Intermediate) -> str:
    return f"{value.operation} at {line(value.place)}"

"""What collectives by an algorithm share: which one on which axis, and what that costs by formula. Framework-neutral.

Over several axes a collective is done one axis after the other, the last (innermost) carrying most: a reduce-scatter
goes over it first, an all-gather last, and an all-reduce is a reduce-scatter over it, an all-reduce over the others and
an all-gather.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from conformance.contract.alteration import Alteration
from conformance.contract.implementation import CollectiveKind, Phase, Unsupported
from suites.collectives import algorithms
from suites.collectives.layout import RowsOverAxes
from suites.collectives.mutants import alterations, mutant
from suites.collectives.schedule import (
    ALL_GATHER,
    ALL_REDUCE,
    COLLECTIVES,
    REDUCE_SCATTER,
    SCATTER_AND_GATHER,
    Cost,
    Schedule,
    ScheduleError,
)
from suites.collectives.topology.declared import OVERHEAD_SECONDS, SWITCH_PORT, TORUS_LINK
from suites.collectives.topology.network import FullyConnected, Network, Torus
from suites.collectives.topology.prediction import pick
from suites.training.traffic import BYTES, Transfer

Part = tuple[str, str, int]  # (collective, axis, elements of a whole operand on each device)


class ByAlgorithm(RowsOverAxes):
    """A mixin in front of native collectives; what it has no algorithm for is refused."""

    algorithm: ClassVar[str]
    algorithms: ClassVar[Mapping[str, str]] = {}  # of an axis, where it is another one
    altered: tuple[str, int] | None = None  # a change to a schedule: operator and number of the round

    @staticmethod
    def messages_of(cost: Cost) -> tuple[int, int]:
        """(messages, blocks in them) of the busiest rank, as the framework's trace counts them."""
        raise NotImplementedError

    def algorithm_of(self, axis: str) -> str:
        return self.algorithms.get(axis, self.algorithm)

    def schedule(self, collective: str, axis: str) -> Schedule:
        schedule = algorithms.schedule(self.algorithm_of(axis), collective, self.mesh.size(axis))
        if self.altered and (collective, axis) == (self.model.collective, self.axes_used[0]):
            return mutant(schedule, *self.altered)
        return schedule

    def alterations(self) -> tuple[Alteration, ...]:
        """Mutants of the schedule of the collective on its first axis."""
        if not self.axes_used:
            return ()
        axis = self.axes_used[0]
        return tuple(alterations(self.schedule(self.model.collective, axis), axis))

    def alter(self, operator: str, site: int) -> None:
        self.altered = (operator, site)

    def require_supported(self) -> None:
        super().require_supported()
        if self.model.collective not in COLLECTIVES or self.model.function in ("max", "min", "mean"):
            raise Unsupported("An algorithm is written for sums and gathers only.")
        for axis in self.axes_used:
            for collective in self.collectives_used():
                self.require_schedule(collective, axis)

    def collectives_used(self) -> set[str]:
        split = {REDUCE_SCATTER, ALL_GATHER} if len(self.axes_used) > 1 else set()
        return {self.model.collective, self.transposed[self.model.collective], *split}

    def require_schedule(self, collective: str, axis: str) -> None:
        try:
            self.schedule(collective, axis)
        except ScheduleError as refusal:
            raise Unsupported(str(refusal)) from None

    # What is communicated.

    def collective_transfers(self, kind: CollectiveKind, phase: Phase, dtype: str) -> Iterator[Transfer]:
        for collective, axis, elements in _paired(parts(kind, self.axes_used, self.carried(), self.mesh.size)):
            cost = algorithms.cost(self.algorithm_of(axis), collective, self.mesh.size(axis))
            blocks = self.mesh.size(axis) if collective != ALL_REDUCE else self.schedule(collective, axis).blocks
            calls, sent = self.messages_of(cost)
            size = -(-elements // blocks)  # of a block
            # Messages differ in size: the first carries the bytes of all, the others are only counted.
            yield Transfer(kind="permute", axes=(axis,), phase=phase, elements=sent * size, dtype=dtype)
            yield Transfer(kind="permute", axes=(axis,), phase=phase, elements=0, dtype=dtype, calls=calls - 1)


class PickedByModel(ByAlgorithm):
    """The algorithm that the model of an axis's network predicts to be quickest for the bytes at hand.

    Devices along the tensor axis share a switch; every other axis is a ring of links.
    """

    algorithm = "picked"

    def algorithm_of(self, axis: str) -> str:
        operand_bytes = self.carried() * BYTES[self.compute_dtype]
        return pick(ALL_REDUCE, self.network(axis), operand_bytes)

    def network(self, axis: str) -> Network:
        size = self.mesh.size(axis)
        if axis == "tensor":
            return FullyConnected(ranks=size, overhead_seconds=OVERHEAD_SECONDS, link=SWITCH_PORT)
        return Torus(ranks=size, overhead_seconds=OVERHEAD_SECONDS, shape=(size,), link=TORUS_LINK)


def _paired(of_axes: Iterator[Part]) -> list[Part]:
    """A reduce-scatter and the all-gather on the same axis as one: the rank that sends most in both is busiest."""
    every = list(of_axes)
    done = {(collective, axis) for collective, axis, _ in every}
    halved = {axis for _, axis in done if {(REDUCE_SCATTER, axis), (ALL_GATHER, axis)} <= done}
    return [
        (SCATTER_AND_GATHER if axis in halved else collective, axis, elements)
        for collective, axis, elements in every
        if not (axis in halved and collective == ALL_GATHER)
    ]


def parts(collective: str, axes: tuple[str, ...], elements: int, size: Callable[[str], int]) -> Iterator[Part]:
    """A collective over several axes -> one after the other, with the elements of the operand that is cut or made.

    elements   of the operand of an all-reduce or reduce-scatter, of the result of an all-gather
    """
    if not axes:
        return
    *outer, inner = axes
    if collective == ALL_REDUCE and outer:
        share = -(-elements // size(inner))
        yield REDUCE_SCATTER, inner, elements
        yield from parts(ALL_REDUCE, tuple(outer), share, size)
        yield ALL_GATHER, inner, elements
        return
    yield collective, inner, elements
    if outer:
        yield from parts(collective, tuple(outer), elements // size(inner), size)

"""The suspect: the first tensor to diverge, with what it takes to recognise a cause in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.evidence.evidence import Block
from conformance.evidence.gather import deviation, distance, selector, sum_partials
from conformance.evidence.tolerance import yardsticks

SLACK = 32.0  # an explanation may leave this many yardsticks unexplained: candidates multiply their own rounding
EXPLAINED = 8.0  # and must leave so many times less than there is to explain


@dataclass(frozen=True, kw_only=True)
class DivergedTensor:
    """One diverging tensor of one step, and the case run that it comes from."""

    comparison: TensorComparison
    case_run: CaseRun

    @property
    def tensor(self) -> str:
        return self.comparison.tensor

    @property
    def step(self) -> int:
        return self.comparison.step

    @property
    def mesh(self) -> Mesh:
        return self.case_run.case.mesh

    @property
    def expected(self) -> np.ndarray:
        return self.comparison.expected

    @cached_property
    def value(self) -> np.ndarray:
        """The whole tensor as the lowest ranks hold it."""
        return self.case_run.whole(self.comparison.observed)

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """rank -> its block."""
        return {rank: block for block in sum_partials(self.comparison.observed, self.mesh) for rank in block.ranks}

    @cached_property
    def unexplained(self) -> float:
        """The largest error that counts as explained: rounding, with room for the factor that a cause may bring."""
        scales = yardsticks(self.comparison.magnitude, self.comparison.noise, self.comparison.epsilon)
        return SLACK * float(scales.max(initial=0.0))

    @property
    def axes(self) -> tuple[str, ...]:
        """Mesh axes of more than one device."""
        return tuple(axis for axis, size in self.mesh.sizes if size > 1)

    @cached_property
    def error(self) -> float:
        """The largest deviation of any copy; infinite where something is missing or not finite."""
        return float(deviation(self.comparison.observed, self.expected, self.mesh).max(initial=0.0))

    def agrees(self, value: np.ndarray, expected: np.ndarray, factor: float = 1.0) -> bool:
        """Whether two arrays agree up to rounding, for tensors that are not trivially zero."""
        if value.shape != expected.shape or not value.size or not np.abs(expected).max() > self.unexplained:
            return False
        return bool(distance(value, expected).max() <= self.unexplained * max(1.0, abs(factor)))

    def explains(self, value: np.ndarray, hypothesis: np.ndarray, factor: float = 1.0) -> bool:
        """Whether a hypothesis agrees with what is there, and far better than what should be there does.

        In a narrow dtype nearly everything agrees with everything: an error of a few yardsticks is explained by none.
        """
        if not self.agrees(value, hypothesis, factor):
            return False
        return bool(distance(value, hypothesis).max() * EXPLAINED <= self.error)

    def group(self, axis: str) -> list[int]:
        """Those ranks of a group along the axis that hold something of the tensor; of all groups the one with most."""
        held = [[rank for rank in group if rank in self.blocks] for group in self.mesh.groups(axis)]
        return max(held, key=len)

    def slice_of(self, rank: int, whole: np.ndarray) -> np.ndarray:
        """What a rank should hold of a whole tensor."""
        return whole[selector(self.blocks[rank].index)]

"""Prediction beside measurement: per size, which algorithm should be quickest and which one was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from suites.collectives.algorithms import ALGORITHMS
from suites.collectives.measure.fit import Fitted, fitted
from suites.collectives.measure.timings import NATIVE, OPERAND_BYTES, Timing


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All algorithms on one size of operand.

    loss         measured time of the predicted pick by that of the quickest algorithm: 1 where the pick is right
    agreement    share of the pairs of algorithms whose order is predicted as it is measured
    """

    framework: str
    ranks: int
    operand_bytes: int
    measured_seconds: dict[str, float]
    predicted_seconds: dict[str, float]
    native_seconds: float

    @property
    def picked(self) -> str:
        return min(self.predicted_seconds, key=self.predicted_seconds.__getitem__)

    @property
    def quickest(self) -> str:
        return min(self.measured_seconds, key=self.measured_seconds.__getitem__)

    @property
    def loss(self) -> float:
        return self.measured_seconds[self.picked] / self.measured_seconds[self.quickest]

    @property
    def agreement(self) -> float:
        pairs = list(combinations(self.measured_seconds, 2))
        return sum(self._alike(*pair) for pair in pairs) / len(pairs)

    def _alike(self, left: str, right: str) -> bool:
        measured = self.measured_seconds[left] < self.measured_seconds[right]
        return measured == (self.predicted_seconds[left] < self.predicted_seconds[right])


def compared(timings: Sequence[Timing]) -> tuple[list[Fitted], list[Comparison]]:
    """Every framework on every number of ranks: its network, and a comparison per size."""
    networks, comparisons = [], []
    for key in dict.fromkeys((timing.framework, timing.ranks) for timing in timings):
        own = [timing for timing in timings if (timing.framework, timing.ranks) == key]
        networks.append(fitted(own))
        comparisons += list(_by_size(own, networks[-1]))
    return networks, comparisons


def _by_size(timings: Sequence[Timing], network: Fitted) -> Iterator[Comparison]:
    for size in OPERAND_BYTES:
        measured = {timing.algorithm: timing.shortest_seconds for timing in timings if timing.operand_bytes == size}
        algorithms = [name for name in ALGORITHMS if name in measured]
        yield Comparison(
            framework=network.framework,
            ranks=network.network.ranks,
            operand_bytes=size,
            measured_seconds={name: measured[name] for name in algorithms},
            predicted_seconds={name: network.predicted(name, size) for name in algorithms},
            native_seconds=measured[NATIVE],
        )

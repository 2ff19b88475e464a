"""Balance: parts with a cost each, given to places so that the slowest place is as fast as possible.

Layers go to stages in their order; experts and rows may go anywhere, as many to each place where that is asked for.
Sources: Graham, Bounds on Multiprocessing Timing Anomalies (longest processing time first); the linear partition
problem (Skiena, The Algorithm Design Manual, section 10.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Which parts each place has."""

    costs: tuple[float, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def loads(self) -> tuple[float, ...]:
        return tuple(sum(self.costs[part] for part in place) for place in self.places)

    @property
    def imbalance(self) -> float:
        """The largest load by the mean; 1 where all are equal. The share of time that is waited is 1 - 1/imbalance."""
        loads = self.loads
        mean = sum(loads) / len(loads)
        return max(loads) / mean if mean else 1.0


def in_order(costs: Sequence[float], places: int) -> Balance:
    """As many parts to each place as to the others, one after the other: what is done without any thought."""
    bounds = [len(costs) * place // places for place in range(places + 1)]
    return Balance(costs=tuple(costs), places=tuple(tuple(range(*pair)) for pair in pairwise(bounds)))


def greedy(costs: Sequence[float], places: int, *, as_many: bool) -> Balance:
    """The dearest part that is left to the place with the least load; `as_many` to each, where they divide."""
    most = -(-len(costs) // places) if as_many else len(costs)
    held: list[list[int]] = [[] for _ in range(places)]
    loads = [0.0] * places
    for part in sorted(range(len(costs)), key=lambda part: -costs[part]):
        free = [place for place in range(places) if len(held[place]) < most]
        place = min(free, key=lambda place: (loads[place], place))
        held[place].append(part)
        loads[place] += costs[part]
    return Balance(costs=tuple(costs), places=tuple(tuple(sorted(parts)) for parts in held))


def contiguous(costs: Sequence[float], places: int) -> Balance:
    """Parts in their order, each place a run of them: the smallest possible maximum, by bisection over it.

    Every place has at least one part where there are as many.
    """
    low, high = max(costs), sum(costs)
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_runs(costs, middle)) <= places else (middle, high)
    runs = _runs(costs, high * (1 + 1e-12))
    while len(runs) < min(places, len(costs)):
        longest = max(range(len(runs)), key=lambda run: len(runs[run]))
        middle_part = len(runs[longest]) // 2
        runs[longest : longest + 1] = [runs[longest][:middle_part], runs[longest][middle_part:]]
    empty: list[list[int]] = [[]] * (places - len(runs))
    return Balance(costs=tuple(costs), places=tuple(tuple(run) for run in (*runs, *empty)))


def _runs(costs: Sequence[float], most: float) -> list[list[int]]:
    """As few runs as possible, none dearer than `most`."""
    runs: list[list[int]] = [[]]
    load = 0.0
    for part, cost in enumerate(costs):
        if runs[-1] and load + cost > most:
            runs.append([])
            load = 0.0
        runs[-1].append(part)
        load += cost
    return runs


def bound(costs: Sequence[float], places: int) -> float:
    """No balance has a smaller largest load: the mean, or the dearest part."""
    return max(list(accumulate(costs))[-1] / places, max(costs))

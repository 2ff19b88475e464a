"""Dropout masks: random in every direction, and drawn before they are split.

B: rows  S: tokens of a row  D: hidden
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.blocks import place
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun, Observed
from conformance.evidence.gather import disagreements
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs

STEPS = 2
DEVIATIONS = 5  # binomial, of the share of kept elements
CHANCE = 1e-9  # blocks that are equal by chance with more than this are not compared

Masks = Mapping[str, Observed]


class DropoutMasks(Relation):
    """Two shards with the same mask, or two copies with different ones, train another model."""

    name = "dropout masks"
    relation = (
        "Every mask of the first two steps holds zeros and ones, ones with the rate of the contract within five "
        "binomial deviations; masks of different sites, steps and rows, of different blocks along every mesh axis "
        "that divides them and of different shards differ; copies agree bit for bit."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        """None: the case itself has observed its masks."""
        yield from ()

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        rate = float(getattr(case_run.contract.model, "dropout", 0.0))
        wholes: dict[str, np.ndarray] = {}
        for number, step in enumerate(case_run.evidence.steps[:STEPS]):
            for name, observed in _masks(step).items():
                label = f"step {number + 1}: {name}"
                wholes[label] = case_run.whole(observed)
                yield label, _values(label, wholes[label], rate)
                yield f"{label}, copies", _copies(label, observed)
                yield f"{label}, rows", _rows(label, wholes[label], rate)
                yield f"{label}, shards", _shards(label, observed, rate)
                yield from _chunks(label, wholes[label], rate, case_run.case.mesh)
        yield from _pairs(wholes, rate)


def _masks(step: Masks) -> Masks:
    return {name: observed for name, observed in step.items() if name.startswith("masks/")}


def _values(label: str, mask_BSD: np.ndarray, rate: float) -> str:
    if not np.isin(mask_BSD, (0, 1)).all():
        return f"{label} holds other values than 0 and 1."
    kept, deviation = float(mask_BSD.mean()), np.sqrt(rate * (1 - rate) / mask_BSD.size)
    if abs(kept - (1 - rate)) <= DEVIATIONS * deviation:
        return ""
    return f"{label} keeps {kept:.4f} of its elements; the rate {rate:g} asks for {1 - rate:.4f} +- {deviation:.2g}."


def _copies(label: str, observed: Observed) -> str:
    pair = next(disagreements(observed), None)
    if pair is None:
        return ""
    return f"{label} is another mask on rank {pair[0].ranks[0]} than on rank {pair[1].ranks[0]}."


def _rows(label: str, mask_BSD: np.ndarray, rate: float) -> str:
    if not _telling(mask_BSD[0].size, rate):
        return ""
    first: dict[bytes, int] = {}
    for number, row_SD in enumerate(mask_BSD):
        earlier = first.setdefault(row_SD.tobytes(), number)
        if earlier != number:
            return f"{label} is the same in rows {earlier} and {number}."
    return ""


def _shards(label: str, observed: Observed, rate: float) -> str:
    """Blocks of different places, as the ranks hold them: equal ones were drawn after the split."""
    for block, other in combinations([block for block in observed.blocks if _telling(block.value.size, rate)], 2):
        if place(block) != place(other) and np.array_equal(block.value, other.value):
            return (
                f"{label} is the same on rank {block.ranks[0]} and rank {other.ranks[0]}, which hold different shards."
            )
    return ""


def _chunks(label: str, mask_BSD: np.ndarray, rate: float, mesh: Mesh) -> Iterator[Finding]:
    """Equal chunks of tokens or features, as an axis would divide them; rows are compared one by one already."""
    for axis, size in mesh.sizes:
        for dim in range(1, mask_BSD.ndim):
            if size > 1 and mask_BSD.shape[dim] % size == 0 and _telling(mask_BSD.size // size, rate):
                chunks = np.split(mask_BSD, size, axis=dim)
                same = any(np.array_equal(chunk, other) for chunk, other in combinations(chunks, 2))
                sentence = f"{label} repeats itself along dim {dim}, as axis {axis} divides it." if same else ""
                yield f"{label}, dim {dim} over {axis}", sentence


def _pairs(wholes: Mapping[str, np.ndarray], rate: float) -> Iterator[Finding]:
    """Masks of other sites and steps."""
    for name, other in combinations(wholes, 2):
        if wholes[name].shape == wholes[other].shape and _telling(wholes[name].size, rate):
            same = np.array_equal(wholes[name], wholes[other])
            yield f"{name} and {other}", f"{name} and {other} are the same mask." if same else ""


def _telling(elements: int, rate: float) -> bool:
    """Whether equal masks of so many elements cannot be chance."""
    return (rate**2 + (1 - rate) ** 2) ** elements < CHANCE

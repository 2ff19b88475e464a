"""What combined sums of gradients send: one all-reduce for each bucket. Framework-neutral.

W is the number of elements of all gradients in a bucket, S slices of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.contract.implementation import Phase
from suites.collectives.buckets import Bucketed
from suites.data.step_budget import DATA_PARALLEL
from suites.training.step_budget import Budgets, Part, Step
from suites.training.traffic import Transfer

BUCKETS = "Li et al., PyTorch Distributed, section 3.2: gradients are summed bucket by bucket"


def of_buckets(phase: Phase) -> Part:
    """Over all axes of the data at once: when all slices are done, or in the backward pass of each of them."""

    def part(step: Step) -> Iterator[Transfer]:
        layout = step.layout
        for names in layout.buckets:
            yield Transfer(
                kind="all_reduce", axes=layout.gradient_axes, phase=phase,
                elements=sum(map(layout.local_elements, names)), dtype=step.reduction,
                calls=step.slices if phase == "backward" else 1, tensor=f"gradients/{' and '.join(names)}",
                formula="W for each bucket, S times inside the backward pass", source=BUCKETS,
            )  # fmt: skip

    return part


def _budgets(phase: Phase) -> Budgets:
    return {kind: budget.plus(of_buckets(phase), layout=(Bucketed,)) for kind, budget in DATA_PARALLEL.items()}


AFTER_BACKWARD, INSIDE_BACKWARD = _budgets("update"), _budgets("backward")

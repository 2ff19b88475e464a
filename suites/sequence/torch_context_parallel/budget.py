"""What torch's `context_parallel` sends on a CPU: keys and values are gathered wide, in each pass.

n tokens of a device, c devices of the sequence axis, K key features of a device.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.contract.implementation import Phase
from suites.sequence.step_budget import KEYS, key_features, over_sequence
from suites.sequence.token_layout import TorchContextLayout
from suites.tensor import step_budget as tensor
from suites.tensor.layout import TensorState
from suites.training.step_budget import Step, StepBudget
from suites.training.traffic import Transfer

MATH = "torch 2.13 on a CPU: the backend of plain matrix products gathers keys, and reduce-scatters their gradients"


def of_keys(step: Step) -> Iterator[Transfer]:
    elements = step.tokens * step.layout.context_size() * key_features(step)
    phases: tuple[Phase, ...] = ("forward", "backward")
    for phase in phases:
        yield over_sequence(step, "all_gather", phase, elements, KEYS, "n c K", MATH, calls=2, dtype=step.wide)
    yield over_sequence(
        step, "reduce_scatter", "backward", elements, "gradients of keys and values", "n c K", MATH, calls=2
    )


BUDGETS = {
    "attention": StepBudget(
        layout=(TorchContextLayout, TensorState), parts=(*tensor.BUDGETS["attention"].parts, of_keys)
    )
}

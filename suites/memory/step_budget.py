"""What policies of memory add to what tensor parallelism sends: sums that are done again. Framework-neutral.

Names of sizes as in `suites.tensor.step_budget`.
Source: Chen et al., Training Deep Nets with Sublinear Memory Cost: what is computed again is sent again, unless kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from suites.memory.policies import Policy, policy_of
from suites.tensor import step_budget as tensor
from suites.tensor.layout import TensorState
from suites.tensor.step_budget import over_tensor
from suites.training.step_budget import Step, StepBudget
from suites.training.traffic import Transfer

CHEN = "Chen et al., Training Deep Nets with Sublinear Memory Cost"


def of_policy(step: Step) -> Iterator[Transfer]:
    """Of a layer that is computed again all sums but the last; in torch, which goes to its end, that one too."""
    policy = policy_of(step.recipe)
    if policy == Policy(block="layer") or policy.axis == step.layout.tensor_axis:
        return  # the former is a recipe of every model; where sums are kept, none is done again
    layers = policy.repeated_layers(step.depth)
    calls = layers * (2 if step.habits.to_its_end else 1)
    if policy.block == "feedforward" and step.habits.to_its_end:
        calls = step.depth
    yield over_tensor(step, "all_reduce", "backward", step.hidden, "n D again", calls=calls, source=CHEN)


BUDGETS = {
    "language_model": StepBudget(layout=(TensorState,), parts=(*tensor.BUDGETS["language_model"].parts, of_policy))
}

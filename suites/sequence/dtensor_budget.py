"""What sequence parallelism sends where torch's DTensor decides.

Sources as in `suites.sequence.step_budget` and `suites.tensor.dtensor_budget`.
"""

from __future__ import annotations

from collections.abc import Iterator

from suites.sequence.step_budget import entered, left, of_stream_losses, one, scattered
from suites.sequence.token_layout import StreamLayout
from suites.tensor.dtensor_budget import backward_sums, of_logits, of_shared_heads
from suites.tensor.dtensor_layout import DTensorLayout
from suites.tensor.step_budget import all_entered, all_left, blocks
from suites.training.step_budget import TRAINING, Part, Step, StepBudget
from suites.training.traffic import Transfer


def of_stream_gradients(step: Step) -> Iterator[Transfer]:
    """Of what is applied to sharded tokens, summed in the backward pass of each slice."""
    modules = ["attention_norm", "feedforward_norm", "final_norm", "adapter_out"]
    yield from backward_sums(step, modules, "each device has its own tokens, and so its own part of the gradient")


def of_adapter(step: Step) -> Iterator[Transfer]:
    """Between the two matrices of an adapter partial sums are reduce-scattered as well."""
    yield from scattered(step, step.tokens * step.model.adapter, step.adapters, "activations/adapters")


_SHARED: tuple[Part, ...] = (*TRAINING, of_shared_heads, of_stream_gradients)
_PARTS: dict[str, tuple[Part, ...]] = {
    "attention": (left(one), entered(one), of_stream_losses),
    "feedforward": (left(one), entered(one), of_adapter, of_stream_losses),
    "layer": (left(blocks), entered(blocks, blocks), of_stream_losses),
    "language_model": (left(all_left), entered(all_entered, blocks), of_logits),
}
BUDGETS = {
    kind: StepBudget(layout=(StreamLayout, DTensorLayout), parts=(*_SHARED, *parts)) for kind, parts in _PARTS.items()
}

"""What tensor parallelism sends where torch's DTensor decides. The sums of the training step are those of all programs.

Names of sizes as in `suites.tensor.step_budget`. DTensor sums a gradient that is partial over the axis where it is
made, in the backward pass of each slice and in the dtype of computation.
Source: Shoeybi et al., Megatron-LM, section 3; for the loss, `torch.distributed.tensor.parallel.loss_parallel`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from suites.tensor.dtensor_layout import DTensorColumns, DTensorLayout, DTensorRows, DTensorSubmesh, DTensorTiles
from suites.tensor.step_budget import (
    LOGITS,
    OWN_HEADS,
    all_entered,
    all_left,
    crossed,
    of_columns,
    of_rows,
    over_tensor,
)
from suites.training.step_budget import MEGATRON, TRAINING, Part, Step, StepBudget
from suites.training.traffic import Transfer

LOSS_PARALLEL = "loss_parallel: largest logit, sum of exponentials, target; what it does not know, once more"


def of_shared_heads(step: Step) -> Iterator[Transfer]:
    """Gradients of head norms, and of keys and values that are held whole."""
    shared = ["query_norm", "key_norm"] + (["key", "value"] if step.layout.keys_are_replicated else [])
    yield from backward_sums(step, shared, OWN_HEADS)


def backward_sums(step: Step, modules: list[str], source: str) -> Iterator[Transfer]:
    """Gradients of what is held whole and partly used, summed in the backward pass of each slice."""
    for name, shape in step.contract.shapes.items():
        if name.split(".")[-2] in modules:
            elements = math.prod(shape)
            yield over_tensor(step, "all_reduce", "backward", elements, "W", tensor=f"gradients/{name}", source=source)


def of_logits(step: Step) -> Iterator[Transfer]:
    model = step.model
    terms = 3 + (2 if model.label_smoothing or model.z_loss else 0) + (1 if model.label_smoothing else 0)
    yield over_tensor(
        step, "all_reduce", "forward", step.tokens, "n for each statistic", calls=terms, dtype=step.wide,
        tensor=LOGITS, source=LOSS_PARALLEL,
    )  # fmt: skip


def of_tiles(step: Step) -> Iterator[Transfer]:
    """DTensor gathers the columns first, so that the whole output is summed over the data axis."""
    outputs, data = step.tokens * step.model.outputs, step.mesh.size("data")
    yield over_tensor(step, "all_gather", "forward", outputs, "n O", tensor="outputs/y")
    yield step.each_slice("all_reduce", "data", "forward", outputs, "outputs/y", "n O, partial sums", MEGATRON)
    yield over_tensor(step, "all_reduce", "backward", step.hidden // data, "n I / data, the gradient of the input")


COLUMNS = StepBudget(layout=(DTensorColumns,), parts=(*TRAINING, of_columns))
ROWS = StepBudget(layout=(DTensorRows,), parts=(*TRAINING, of_rows))
TILES = StepBudget(layout=(DTensorTiles,), parts=(*TRAINING, of_tiles))
SUBMESH = StepBudget(layout=(DTensorSubmesh,), parts=(*TRAINING, of_columns))
MODELS: tuple[Part, ...] = (*TRAINING, of_shared_heads)
BUDGETS = {
    "attention": StepBudget(layout=(DTensorLayout,), parts=(*MODELS, crossed(lambda step: 1))),
    "feedforward": StepBudget(layout=(DTensorLayout,), parts=(*TRAINING, crossed(lambda step: 1))),
    "layer": StepBudget(layout=(DTensorLayout,), parts=(*MODELS, crossed(all_left, all_entered))),
    "language_model": StepBudget(layout=(DTensorLayout,), parts=(*MODELS, crossed(all_left, all_entered), of_logits)),
}

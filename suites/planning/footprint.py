"""What one device holds, and computes, in a step of the scanned program on a layout.

Bytes of parameters, gradients and slots follow from the shardings and are exact; so are operations. What else lives at
the peak is a sum over the buffers of the program, whose numbers at a time were counted in what XLA assigns for an H100
(`WORKING`): which of them overlap is the compiler's choice, so this part is a prediction.
L: layers  n: tokens of a device in a slice  D: hidden  F: hidden features of a feed-forward block  S: length of a row
H: heads  V: vocabulary  W: elements of the parameters of a device  t: size of the tensor axis
"""

from __future__ import annotations

import math

from conformance.cases.plannable import Footprint, Layout, Training
from suites.hybrid.budget import EVERY, ROWS, Sizes
from suites.planning.plans import scale_plan
from suites.planning.working import temporary_bytes

WIDE = 4  # bytes of float32: slots, and parameters and gradients unless they lie in bfloat16
SLOTS = 2  # of AdamW


def footprint(training: Training, layout: Layout) -> Footprint:
    """Of the busiest device."""
    plan = scale_plan("candidate", training, layout)
    sizes = Sizes(plan.contract, layout.mesh, plan.dtype)
    elements = stored_elements(sizes)
    narrow = 2 if training.parameters == "bfloat16" else WIDE
    return Footprint(
        parameter_bytes=elements * narrow,
        gradient_bytes=elements * narrow,
        optimizer_bytes=elements * WIDE * SLOTS,
        batch_bytes=batch_bytes(sizes),
        temporary_bytes=temporary_bytes(sizes, elements, narrow),
        flops=flops(sizes),
    )


def stored_elements(sizes: Sizes) -> int:
    """Of all parameters, on one device; what does not divide over fsdp is filled up."""
    return sum(layers * _share(sizes, name) for name, _, layers in sizes.stored())


def _share(sizes: Sizes, name: str) -> int:
    """The tensor axis divides columns or rows, fsdp the other dim; of a vector both divide the same."""
    shape = sizes.contract.shapes[name.replace(EVERY, "layers.0")]
    parts = [1] * len(shape)
    is_row = name.split(".")[-2] in ROWS
    tensor_dim = None
    if sizes.divides(name):
        tensor_dim = 0 if is_row or len(shape) == 1 else 1
        parts[tensor_dim] *= sizes.tensor
    shard_dim = 1 if tensor_dim == 0 and len(shape) > 1 else 0
    parts[shard_dim] *= sizes.mesh.size("fsdp")
    return math.prod(-(-size // number) for size, number in zip(shape, parts, strict=True))


def batch_bytes(sizes: Sizes) -> int:
    """Rows of a device, whole along the tensor axis."""
    rows = sizes.size(sizes.row_axes)
    example = sizes.contract.example
    return sum(value.size // rows * value.dtype.itemsize for value in example.values())


def flops(sizes: Sizes) -> dict[str, int]:
    """Of the products of all slices: forward, twice as much backward, and what is computed again.

    Recomputing a layer leaves out its last product, whose result nothing in its backward pass reads; recomputing the
    core of attention computes the scores alone.
    """
    model, tokens = sizes.model, sizes.row_tokens
    length = sizes.contract.batch_shapes["mask"][1]
    weights = {name: size for name, size, _ in sizes.stored() if name.endswith(".weight")}
    layer = 2 * tokens * sum(size for name, size in weights.items() if EVERY in name)
    last = 2 * tokens * weights[f"{EVERY}.feedforward.down.weight"]
    scores = 2 * tokens * length * model.num_heads * model.head_size // sizes.tensor
    head = 2 * tokens * weights["head.weight"]
    again = {"none": 0, "attention": scores, "layer": layer - last + 2 * scores}[sizes.recipe.recompute]
    total = model.layers * (3 * (layer + 2 * scores) + again) + 3 * head
    return {sizes.compute: total * sizes.slices}

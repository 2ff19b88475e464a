"""What one device holds, and computes, in a step of the scanned program on a layout.

Bytes of parameters, gradients and slots follow from the shardings and are exact; so are operations. What else lives at
the peak is a sum over the buffers of the program, whose numbers at a time were counted in what XLA assigns for an H100
(`suites.planning.working`): which of them overlap is the compiler's choice, so this part is a prediction.
L: layers  n: tokens of a device in a slice  D: hidden  F: hidden features of a feed-forward block  S: length of a row
H: heads  V: vocabulary  W: elements of the parameters of a device  t: size of the tensor axis
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import replace

from conformance.cases.plannable import Footprint, Layout, Training
from suites.hybrid.budget import EVERY, ROWS, Sizes
from suites.hybrid.budget_mixture import ROUTER, MixtureSizes
from suites.moe.layout import is_expert
from suites.planning import stages
from suites.planning.plans import COMPUTE, planned_contract
from suites.planning.working import temporaries

WIDE = 4  # bytes of float32: slots, and parameters and gradients unless they lie in bfloat16
SLOTS = 2  # of AdamW
_NUMBERS: dict[tuple[Hashable, ...], int] = {}


def sizes_of(training: Training, layout: Layout) -> list[Sizes]:
    """The numbers of a device; of stages those of both ends of the pipeline, of which one is the busiest."""
    contract = planned_contract(training, layout)
    if layout.mesh.size("pipeline") > 1:
        return list(stages.ends(contract, layout, COMPUTE))
    kind = MixtureSizes if training.model.experts else Sizes
    return [kind(contract, layout.mesh, COMPUTE)]


def footprint(training: Training, layout: Layout) -> Footprint:
    """Of the busiest device: memory of the one that needs most, operations of the one that has most."""
    every = [footprint_of(sizes, training, layout) for sizes in sizes_of(training, layout)]
    needing = max(every, key=lambda each: each.needed_bytes)
    return replace(needing, flops={COMPUTE: max(each.flops[COMPUTE] for each in every)})


def footprint_of_ranks(training: Training, layout: Layout) -> dict[int, Footprint]:
    """Rank of the pipeline axis -> that of one of its devices, for every rank of which a program is compiled."""
    if layout.mesh.size("pipeline") == 1:
        return {0: footprint(training, layout)}
    every = stages.compiled(planned_contract(training, layout), layout, COMPUTE)
    return {sizes.part.rank: footprint_of(sizes, training, layout) for sizes in every}


def footprint_of(sizes: Sizes, training: Training, layout: Layout) -> Footprint:
    """Of one device."""
    narrow = 2 if training.parameters == "bfloat16" else WIDE
    elements = _kept(stored_elements, sizes)
    return Footprint(
        parameter_bytes=elements * narrow,
        gradient_bytes=elements * narrow,
        optimizer_bytes=elements * WIDE * SLOTS,
        batch_bytes=batch_bytes(sizes),
        temporaries=temporaries(sizes, elements, narrow),
        flops={COMPUTE: _kept(flops, sizes)},
        bubble=stages.bubble(layout),
    )


def _kept(of: Callable[[Sizes], int], sizes: Sizes) -> int:
    """A number that no count of microbatches changes, worked out once for all layouts that share it."""
    shape = sizes.contract.batch_shapes["mask"]
    key = (of, sizes.contract.model, sizes.mesh, sizes.end, shape, sizes.recipe.recompute)
    if key not in _NUMBERS:
        _NUMBERS[key] = of(sizes)
    return _NUMBERS[key]


def stored_elements(sizes: Sizes) -> int:
    """Of all parameters, on one device; what does not divide over the axes of the state is filled up."""
    return sum(layers * _share(sizes, name) for name, _, layers in sizes.stored())


def _share(sizes: Sizes, name: str) -> int:
    """The tensor axis divides columns or rows, those of the state the other dim; of a vector both divide the same.

    Experts are divided over their own axis besides; a router is stored in parts over every axis.
    """
    shape = sizes.contract.shapes[name.replace(EVERY, "layers.0")]
    if name.endswith(ROUTER):
        return -(-shape[0] // sizes.size(sizes.shard_axes(name))) * shape[1]
    parts = [1] * len(shape)
    matrix = len(shape) - 2 if is_expert(name) else 0  # dims in front of the matrix of an expert
    if matrix:
        parts[0] = sizes.mesh.size("expert")
    is_row = name.split(".")[-2] in ROWS
    tensor_dim = None
    if sizes.divides(name):
        tensor_dim = matrix if is_row or len(shape) == 1 else matrix + 1
        parts[tensor_dim] *= sizes.tensor
    shard_dim = matrix + 1 if tensor_dim == matrix and len(shape) > 1 else matrix
    parts[shard_dim] *= sizes.size(sizes.shard_axes(name))
    return math.prod(-(-size // number) for size, number in zip(shape, parts, strict=True))


def batch_bytes(sizes: Sizes) -> int:
    """Rows of a device, whole along the tensor axis."""
    parts = sizes.size((*sizes.row_axes, "sequence"))
    example = sizes.contract.example
    return sum(value.size // parts * value.dtype.itemsize for value in example.values())


def flops(sizes: Sizes) -> int:
    """Of the products of all slices: forward, twice as much backward, and what is computed again.

    Recomputing a layer leaves out its last product, whose result nothing in its backward pass reads; of a mixture the
    gates read what each expert said. Recomputing the core of attention computes the scores alone.
    """
    model, tokens = sizes.model, sizes.tokens
    length = sizes.contract.batch_shapes["mask"][1]
    weights = {name: products(sizes, name, size) for name, size, _ in sizes.stored() if name.endswith(".weight")}
    weights.pop("embedding.weight", None)
    head = weights.pop("head.weight", 0)
    layer = sum(weights.values())
    last = sum(weights.get(f"{EVERY}.{block}.down.weight", 0) for block in ("feedforward", "moe.shared"))
    scores = 2 * tokens * length * model.num_heads * model.head_size // sizes.tensor
    again = {"none": 0, "attention": scores, "layer": layer - last + 2 * scores}[sizes.recipe.recompute]
    total = model.layers * (3 * (layer + 2 * scores) + again) + 3 * head
    return total * sizes.slices


def products(sizes: Sizes, name: str, elements: int) -> int:
    """Operations of one product with a weight of so many elements on a device."""
    if name.endswith(ROUTER):
        return 2 * sizes.tokens // sizes.tensor * elements
    if is_expert(name):
        assert isinstance(sizes, MixtureSizes)
        of_rows = sizes.buffers // (sizes.experts * sizes.model.hidden)  # places of one expert in a device's rows
        return 2 * of_rows * sizes.mesh.size("expert") * elements
    return 2 * sizes.tokens * elements

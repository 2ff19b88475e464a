"""Temporaries at the peak of a step: how often each kind of buffer lives at once, as XLA assigns memory for an H100.

The counts are fitted to compiled plans (`suites.planning.measure.plans.FITTED`): least squares of relative errors,
nowhere negative, those of a mixture behind those of a dense decoder. `python -m suites.planning.measure` says what they
miss by, there and in other plans. A buffer is counted in the compute dtype, 2 bytes an element.
L: layers  n: tokens of a device in a slice  S: length of a row  D: hidden  F: features of a feed-forward block
H: heads  V: vocabulary  W: elements of the parameters of a device  t: size of the tensor axis  E: experts
C: places of an expert in a row
"""

from __future__ import annotations

from collections.abc import Mapping

from conformance.cases.plannable import GRADIENTS, SAVED, WORKING
from suites.hybrid.budget import Sizes
from suites.hybrid.budget_mixture import MixtureSizes
from suites.moe.layout import is_expert

BYTES = 2
# recompute -> buffer -> how many of them live at the peak
_STEP = {
    "stacks": 1.65, "stacks, summed": 4.58, "narrow stacks, summed": 2.37, "stream": 10.25, "features": 3.89,
    "scores": 2.87, "logits": 1.86,
}  # fmt: skip
_MIXED = {"places": 2.13, "experts": 7.02}  # of a mixture, instead of the features of a dense block
_KEPT = {"saved stream": 2.39, "saved features": 8.99}
WORKING_OF: Mapping[str, Mapping[str, float]] = {
    "layer": {**_STEP, **_MIXED, "saved inputs": 1.24},
    "attention": {**_STEP, **_KEPT},
    "none": {**_STEP, **_KEPT, "saved scores": 3.0},
}


def temporaries(sizes: Sizes, elements: int, narrow: int) -> dict[str, int]:
    """Bytes by kind; `elements` of the parameters of a device, which lie in so many bytes each."""
    counts = WORKING_OF[sizes.recipe.recompute]
    total = dict.fromkeys((SAVED, GRADIENTS, WORKING), 0.0)
    for name, size in buffers_of(sizes, elements, narrow).items():
        kind = SAVED if name.startswith("saved") else GRADIENTS if "stacks" in name else WORKING
        total[kind] += BYTES * counts.get(name, 0.0) * size
    return {kind: round(size) for kind, size in total.items()}


def buffers_of(sizes: Sizes, elements: int, narrow: int) -> dict[str, float]:
    """Elements of one buffer of each kind.

    stacks                 parameters of all layers and their gradients as they are computed with: W
    stacks, summed         the same where gradients of slices are added up in float32
    narrow stacks, summed  the same where they are added up in bfloat16
    stream                 hidden states of all tokens: n D
    features               of a dense feed-forward block: n F / t
    places                 of all experts for the rows of a device, whole along tensor: rows E C D
    experts                parameters of those of one layer that a device computes with
    scores                 of attention: rows H S S / t
    logits                 n V / t, where the head is
    saved inputs           of all layers: L n D / t
    saved stream, saved features, saved scores   the same of all layers, where they are kept
    """
    model, tensor = sizes.model, sizes.tensor
    tokens, length = sizes.tokens, sizes.contract.batch_shapes["mask"][1]
    summed, live = sizes.slices > 1, sizes.live
    dense = model.shared_ffn if model.experts else model.ffn
    stream, features = tokens * model.hidden, tokens * dense / tensor
    scores = tokens * length * model.num_heads / tensor
    return {
        "stacks": elements * (not summed),
        "stacks, summed": elements * (summed and narrow > BYTES),
        "narrow stacks, summed": elements * (summed and narrow == BYTES),
        "stream": stream,
        "features": features,
        "places": sizes.buffers if isinstance(sizes, MixtureSizes) else 0.0,
        "experts": sum(size for name, size, _ in sizes.stored() if is_expert(name)) if model.experts else 0.0,
        "scores": scores,
        "logits": sizes.has_head * tokens * model.vocabulary / tensor,
        "saved inputs": live * model.layers * stream / tensor,
        "saved stream": live * model.layers * stream,
        "saved features": live * model.layers * features,
        "saved scores": live * model.layers * scores,
    }

"""Every fault and negative control of tensor parallelism, and the known mechanisms that this suite cannot have."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.tensor.faults.table_inputs import INPUTS
from suites.tensor.faults.table_reductions import LAYOUT, REDUCTIONS
from suites.tensor.faults.table_training import LOSSES, MODEL, NORMS, UPDATES
from suites.tensor.faults.targets import BOTH_AXES, BOTH_WAYS, JAX, TORCH, both, each

CONTROLS = (
    Fault(
        id="bias-of-first-rank",
        summary="The first rank alone adds the bias, before the sum.",
        bites="never",
        planted=both("controls:BiasOfFirstRank"),
        contract="tensor/mlp",
        meshes=BOTH_WAYS,
        axis=None,
        control=True,
    ),
    Fault(
        id="norm-of-norms",
        summary="Each rank takes the root of its squares, and the squares of the roots are summed.",
        bites="never",
        planted=both("controls:NormOfNorms"),
        contract="tensor/layer",
        meshes=BOTH_WAYS,
        axis=None,
        control=True,
    ),
    Fault(
        id="recomputed",
        summary="The decoder layer is computed again in the backward pass, and its sums with it.",
        bites="never",
        planted=each("Recomputed"),
        contract="tensor/layer",
        meshes=BOTH_AXES,
        axis=None,
        control=True,
    ),
    Fault(
        id="sum-in-two-parts",
        summary="An all-reduce is a reduce-scatter and an all-gather.",
        bites="never",
        planted=each("SumInTwoParts"),
        contract="tensor/mlp",
        meshes=BOTH_WAYS,
        axis=None,
        control=True,
    ),
    Fault(
        id="gradients-summed-in-bfloat16",
        summary="In a bfloat16 case gradients are reduced in bfloat16, and this is declared.",
        bites="never",
        planted=both("controls:GradientsSummedInBfloat16"),
        contract="tensor/mlp",
        meshes=BOTH_WAYS,
        dtype="bfloat16",
        axis=None,
        control=True,
    ),
)

SAVED = (
    Fault(
        id="fused-projections-saved-in-rank-order",
        summary="A fused projection is saved as ranks hold it, and cut evenly when it is loaded.",
        bites="a checkpoint that is loaded on another number of tensor ranks",
        planted=both("checkpoints:FusedInOrderOfRanks"),
        contract="tensor/language_model_saved",
        meshes=("data=2,tensor=2",),
        axis=None,
        causes=("relation 'checkpoint'",),
        seen_by=("relations",),
    ),
)

HOLLOW = (
    Fault(
        id="whole-on-every-rank",
        summary="Every rank holds the whole model and trains it on the whole batch.",
        bites="always; every number is right",
        planted=dict.fromkeys((JAX, TORCH), "suites.training.whole:WholeOnEveryRank"),
        contract="tensor/mlp",
        meshes=BOTH_AXES,
        axis=None,
        causes=("the axis divides nothing",),
        seen_by=("layout",),
    ),
)

FAULTS = REDUCTIONS + INPUTS + LAYOUT + LOSSES + NORMS + UPDATES + MODEL + SAVED + HOLLOW + CONTROLS

_SEQUENCE = "needs activations sharded along the sequence: for the sequence suite"
NOT_APPLICABLE = {
    "sp-norm-grad-not-reduced": _SEQUENCE,
    "sp-flag-missing-on-one-norm": _SEQUENCE,
    "fix-valid-only-for-one-flag": _SEQUENCE,
    "lora-replicated-factor-partial-grad": _SEQUENCE,
    "padding-mask-not-sharded-with-activations": _SEQUENCE,
    "collective-matmul-wrong-chunk-order": "no product here is overlapped with a ring: for the sequence suite",
    "expert-norm-averaged-over-dp": "needs experts: for the mixture-of-experts suite",
    "clip-norm-after-wrong-stage": "needs pipeline stages: for the pipeline suite",
}

"""The table of faults: gradients of the inputs of a block that stands by itself."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.tensor.faults.targets import BOTH_AXES, BOTH_WAYS, both, each, github

PARTIAL = "copies are partial sums"

INPUTS = (
    Fault(
        id="mlp-entry-without-gradient-sum",
        summary="A feed-forward block by itself is entered by the identity, in the backward pass too.",
        bites="whenever something before the block is trained: the gradient of its inputs is a partial sum",
        sources=github("flatironinstitute/jax-finufft#226"),
        planted=both("reductions:EntryWithoutGradientSum"),
        contract="tensor/mlp",
        meshes=BOTH_WAYS,
        axis="tensor",
        causes=(PARTIAL, "missing"),
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="attention-entry-without-gradient-sum",
        summary="An attention block by itself is entered by the identity, in the backward pass too.",
        bites="whenever something before the block is trained: the gradient of its inputs is a partial sum",
        planted=both("reductions:EntryWithoutGradientSum"),
        contract="tensor/attention_mha_fused",
        meshes=BOTH_AXES,
        axis="tensor",
        causes=(PARTIAL, "missing"),
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="dtensor-entry-gradient-taken-for-whole",
        summary="A block is fed local tensors whose gradients DTensor is told are whole on every rank.",
        bites="whenever something before the block is trained; forward and gradients of parameters exact",
        planted={"torch-dtensor": "suites.tensor.faults.in_torch:EntryGradientTakenForWhole"},
        contract="tensor/mlp",
        meshes=BOTH_AXES,
        axis="tensor",
        causes=(PARTIAL, "missing"),
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="gradient-of-split-not-gathered",
        summary="The gradient of inputs that were split along their features is this rank's part, beside zeros.",
        bites="always; forward and gradients of parameters exact",
        planted=each("GradientOfSplitNotGathered"),
        contract="tensor/row_linear",
        meshes=BOTH_AXES,
        axis="tensor",
        causes=(PARTIAL, "missing"),
        seen_by=("logic", "replicas"),
    ),
)

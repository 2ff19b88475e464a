"""Every fault and negative control of hybrid parallelism, and the known mechanisms that this suite cannot have."""

from __future__ import annotations

from conformance.cases.fault import NO_AXIS, Fault
from suites.tensor.faults.targets import github

_FIVE = ("jax-five_axes-capacity", "torch-five_axes")
_STAGED = ("jax-pipelined", "torch-pipelined")
_CONTEXT = ("jax-pipelined_context", "torch-pipelined_context")


def _planted(implementations: tuple[str, ...], mixin: str) -> dict[str, str]:
    """A mixin of this suite, or `suite.module:Class` of another one."""
    where = mixin if ":" in mixin else f"hybrid.faults.axes:{mixin}"
    return dict.fromkeys(implementations, f"suites.{where}")


AXES = (
    Fault(
        id="rank-taken-from-wrong-mesh-axis",
        summary="A rank finds its tokens by its place along the expert axis instead of the sequence axis.",
        bites="two axes that are not alike on every rank",
        sources=github("pytorch/torchtitan#2842", "NVIDIA/Megatron-LM#7452"),
        planted=_planted(_FIVE, "RankOfAnotherAxis"),
        contract="hybrid/mixture",
        meshes=("expert=3,sequence=2",),
        axis="sequence",
        seen_by=("logic", "relations"),
    ),
    Fault(
        id="moe-aux-loss-scale-depends-on-topology",
        summary="Auxiliary losses are means over all rows, but over one shard of each row only.",
        bites="tokens sharded over the sequence axis",
        sources=github("NVIDIA/Megatron-LM#5047", "NVIDIA/Megatron-LM#3768", "NVIDIA/Megatron-LM#5007"),
        planted=_planted(_FIVE, "TermsWithoutSequence"),
        contract="hybrid/mixture",
        meshes=("expert=3,sequence=2",),
        axis="sequence",
    ),
    Fault(
        id="inserted-padding-counted-by-router",
        summary="Padding that was inserted to divide a row over the axes is routed like a token.",
        bites="a length that the axes do not divide",
        sources=github("NVIDIA/Megatron-LM#7238"),
        planted=_planted(_FIVE, "InsertedPaddingRouted"),
        contract="hybrid/mixture",
        meshes=("expert=3,sequence=2",),
        axis="sequence",
    ),
    Fault(
        id="router-gradient-per-tensor-rank",
        summary="The gradient of the router, whole on every rank of the tensor axis, is summed over it.",
        bites="a stream sharded over the tensor axis, and a router that sees whole rows",
        planted=_planted(_FIVE, "RouterGradientPerTensorRank"),
        contract="hybrid/mixture",
        meshes=("expert=3,tensor=2",),
        axis="tensor",
        causes=("summed twice",),
    ),
)

SCANNED = (
    Fault(
        id="scanned-layers-taken-in-another-order",
        summary="A scan takes the stacked parameters of the layers from the second on, and those of the first last.",
        bites="layers that differ, as all do after the first step",
        planted=_planted(("jax-scanned",), "ScannedInAnotherOrder"),
        contract="hybrid/scanned",
        meshes=("fsdp=2,tensor=2",),
        axis=NO_AXIS,
        seen_by=("logic", "trajectory"),
    ),
    Fault(
        id="residual-annotated-once-more",
        summary="Tokens of the residual stream are annotated twice, which changes nothing.",
        bites="never: a control",
        planted=_planted(("jax-scanned",), "AnnotatedTwice"),
        contract="hybrid/scanned",
        meshes=("fsdp=2,tensor=2",),
        axis=None,
        control=True,
    ),
)

NORMS = (
    Fault(
        id="clip-norm-misses-expert-axis",
        summary="The norm that clips sums squares over all axes but that of the experts.",
        bites="clipping that acts",
        sources=github("deepspeedai/DeepSpeed#5259"),
        planted=_planted(_FIVE, "NormMissesExperts"),
        contract="hybrid/mixture",
        meshes=("fsdp=2,expert=3",),
        axis="expert",
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="clip-norm-misses-shard-axis",
        summary="The norm that clips sums squares over all axes but the one that divides what is stored.",
        bites="clipping that acts",
        planted=_planted(_FIVE, "NormMissesShards"),
        contract="hybrid/mixture",
        meshes=("fsdp=2,expert=3",),
        axis="fsdp",
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="clip-norm-after-wrong-stage",
        summary="Every stage clips by the norm of its own gradients.",
        bites="clipping that acts",
        planted=_planted(_STAGED, "pipeline.faults.steps:NormPerStage"),
        contract="hybrid/staged_mixture",
        meshes=("expert=3,pipeline=2",),
        axis="pipeline",
        seen_by=("logic", "replicas"),
    ),
)

STAGES = (
    Fault(
        id="aux-loss-of-microbatch",
        summary="Auxiliary losses are means over the rows of a microbatch, added up as if they were shares of a mean.",
        bites="several microbatches",
        sources=github("NVIDIA-NeMo/Automodel#3359"),
        planted=_planted(_STAGED, "TermsOfMicrobatch"),
        contract="hybrid/staged_mixture",
        meshes=("expert=3,pipeline=2",),
        axis=NO_AXIS,
    ),
    Fault(
        id="pp-tied-embedding-grads-not-summed",
        summary="First and last stage update their copies of the tied embedding, each with its own gradient.",
        bites="an embedding tied to a head on another rank",
        sources=github("uw-syfi/piper#13", "cornstarch-org/Cornstarch#16", "NVIDIA/Megatron-LM#299"),
        planted=_planted(_CONTEXT, "pipeline.faults.steps:TiedGradientsNotSummed"),
        contract="hybrid/staged_context",
        meshes=("sequence=2,pipeline=3",),
        axis="pipeline",
        causes=("missing",),
    ),
)

SAVED = (
    Fault(
        id="pp-only-first-stage-saved",
        summary="Parameters of later stages are not written and are loaded as zeros.",
        bites="pipeline > 1",
        sources=github("pytorch/torchtitan#474", "Lightning-AI/pytorch-lightning#5567"),
        planted=_planted(_STAGED, "pipeline.faults.checkpoints:OnlyFirstStageSaved"),
        contract="hybrid/staged_saved",
        meshes=("expert=3,pipeline=2",),
        axis="pipeline",
        causes=("relation 'checkpoint'",),
        seen_by=("relations",),
    ),
)

CONTROLS = (
    Fault(
        id="norm-of-norms",
        summary="Each rank takes the root of its squares, and the squares of the roots are summed.",
        bites="never",
        planted=_planted(_FIVE, "tensor.faults.controls:NormOfNorms"),
        contract="hybrid/mixture",
        meshes=("fsdp=2,expert=3",),
        axis=None,
        control=True,
    ),
    Fault(
        id="norm-of-norms-of-stages",
        summary="The same over the stages of a pipeline.",
        bites="never",
        planted=_planted(_CONTEXT, "tensor.faults.controls:NormOfNorms"),
        contract="hybrid/staged_context",
        meshes=("sequence=2,pipeline=3",),
        axis=None,
        control=True,
    ),
)

FAULTS = AXES + SCANNED + NORMS + STAGES + SAVED + CONTROLS

NOT_APPLICABLE = {
    "matmul-shard-order-mismatch": "planted in the data suite, whose sharded state these programs have",
    "padding-mask-not-sharded-with-activations": "planted in the sequence suite, whose ring these programs have",
}

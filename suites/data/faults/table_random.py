"""The table of faults, fourth part: what is drawn, computed again, rounded, and loaded."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.data.faults.targets import CROSSED, SMALL, both
from suites.tensor.faults.targets import github

_FOLDER = "suites.data.faults"


def _each(way: str, mixin: str) -> dict[str, str]:
    """One mixin for each framework, of the same name."""
    return {f"{name}-{way}": f"{_FOLDER}.state_in_{name}:{mixin}" for name in ("jax", "torch")}


RANDOM = (
    Fault(
        id="dropout-same-at-every-site",
        summary="The random key is not split: every layer, and both blocks of it, drop the same elements.",
        bites="dropout at more than one place",
        planted=both("zero3", "randomness:OneMaskForAllSites"),
        contract="data/dropout",
        meshes=SMALL,
        axis=None,
        causes=("another mask", "masks/embedding"),
    ),
    Fault(
        id="dropout-not-rescaled",
        summary="Kept values are not divided by the keep probability.",
        bites="dropout; evaluation without it then sees larger values than training",
        planted=both("data_parallel", "randomness:KeptValuesNotEnlarged"),
        contract="data/dropout",
        meshes=CROSSED,
        axis=None,
    ),
    Fault(
        id="init-depends-on-mesh",
        summary="The number of the data rank is folded into the key that parameters are drawn from.",
        bites="initial values of one's own: every mesh trains another model",
        planted=both("zero3", "randomness:SeedOfMesh"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        causes=("initial values",),
        seen_by=("relations",),
    ),
    Fault(
        id="identical-init-of-tensor-shards",
        summary="Every tensor rank draws its block from the same key: the whole is a block, repeated.",
        bites="initial values of one's own; nothing compares wrong where canonical ones are loaded",
        sources=github("modelscope/ms-swift#7944"),
        planted=both("data_parallel", "randomness:TensorShardsDrawnAlike"),
        contract="data/checkpoint",
        meshes=CROSSED,
        axis=None,
        causes=("initial values",),
        seen_by=("relations",),
    ),
)

RECOMPUTED = (
    Fault(
        id="fp8-or-autocast-off-in-recompute",
        summary="A layer is computed again outside of the context that set its dtype: in bfloat16 for float32.",
        bites="recompute with a dtype that a context sets",
        sources=github("NVIDIA/Megatron-LM#7538", "NVIDIA/TransformerEngine#1254"),
        planted=_each("data_parallel", "CoarseInBackward"),
        contract="data/dropout_recomputed",
        meshes=SMALL,
        dtype="float32",
        axis=None,
        causes=("computed or reduced in bfloat16", "without recompute"),
        seen_by=("numerics",),
    ),
    Fault(
        id="recompute-drops-kwarg-tensors",
        summary="Keyword arguments of a recomputed layer are treated as constants: scales get no gradient.",
        bites="recompute; the loss is exact",
        sources=github("NVIDIA/Megatron-LM#4765"),
        planted=_each("data_parallel", "GradientOfScalesDropped"),
        contract="data/dropout_recomputed",
        meshes=SMALL,
        axis=None,
        causes=("without recompute",),
    ),
    Fault(
        id="recompute-gathers-over-wrong-group",
        summary="A layer's input is kept in parts on the tensor ranks, and parts of the data ranks are gathered.",
        bites="recompute, two rows of ranks with different data; the forward pass is exact",
        sources=github("NVIDIA/Megatron-LM#7452"),
        planted=_each("data_parallel", "GatheredOverDataInBackward"),
        contract="data/dropout_recomputed",
        meshes=CROSSED,
        axis=None,
    ),
)

ROUNDED = (
    Fault(
        id="gradients-reduced-in-undeclared-dtype",
        summary="Gradients are reduced in bfloat16 without declaring it; nothing about the batch is special.",
        bites="float32",
        planted={f"{name}-data_parallel": f"{_FOLDER}.in_{name}:ReducedInBfloat16" for name in ("jax", "torch")},
        contract="data/language_model",
        meshes=SMALL,
        dtype="float32",
        axis=None,
        causes=("bfloat16", "of another size"),
        seen_by=("numerics",),
    ),
    Fault(
        id="master-weights-not-used",
        summary="The optimizer updates the rounded parameters: updates below their last bit are lost in every step.",
        bites="parameters narrower than their master copy, updates below their last bit",
        planted=both("zero3", "precision:MasterNotUsed"),
        contract="data/policy_small_updates",
        meshes=SMALL,
        dtype="float32",
        axis=None,
        causes=("bfloat16", "without precision"),
        seen_by=("trajectory",),
    ),
    Fault(
        id="parameters-not-copied-from-master",
        summary="The master copy of one parameter is updated, and the model never sees it.",
        bites="a master copy",
        planted=both("zero1", "precision:NotCopiedFromMaster"),
        contract="data/policy_master",
        meshes=SMALL,
        dtype="float32",
        axis=None,
        causes=("never updated",),
        seen_by=("trajectory",),
    ),
)

RESUMED = (
    Fault(
        id="optimizer-slots-lost-on-resume",
        summary="Parameters and counter are loaded, and the optimizer begins with new slots.",
        bites="an optimizer with slots; the loaded parameters are right",
        planted=both("zero3", "resuming:SlotsLost"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        causes=("checkpoint",),
        seen_by=("relations",),
    ),
    Fault(
        id="step-before-saved",
        summary="The writer still holds the state of the step before.",
        bites="a save in the background",
        planted=both("zero2", "resuming:StepBeforeSaved"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        causes=("checkpoint",),
        seen_by=("relations",),
    ),
    Fault(
        id="all-ranks-read-shard-zero",
        summary="Every rank of the shard axis reads the first shard of each parameter from the checkpoint.",
        bites="fsdp > 1; what was saved is right",
        sources=github("vllm-project/vllm-gguf-plugin#103"),
        planted=_each("zero3", "FirstShardLoaded"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        causes=("checkpoint",),
        seen_by=("relations",),
    ),
    Fault(
        id="resharding-deals-rows-out",
        summary="Where the number of shards has changed, rows are assumed to be distributed over shards round-robin.",
        bites="a checkpoint of another mesh; on its own mesh it is right",
        planted=_each("zero3", "DealtOut"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        causes=("checkpoint",),
        seen_by=("relations",),
    ),
    Fault(
        id="checkpoint-digests-not-compared",
        summary="The data that is read is not compared with what was written: flipped bytes go unnoticed.",
        bites="a damaged file",
        planted=_each("data_parallel", "DigestsNotCompared"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        causes=("damaged checkpoint",),
        seen_by=("relations",),
    ),
)

UNUSUAL = (
    Fault(
        id="saved-twice",
        summary="A second save overwrites the first, which is the same.",
        bites="never",
        planted=both("zero3", "resuming:SavedTwice"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        control=True,
    ),
    Fault(
        id="files-beside-the-checkpoint",
        summary="Other files lie in the folder of a checkpoint.",
        bites="never",
        planted=both("zero3", "resuming:FilesBesides"),
        contract="data/checkpoint",
        meshes=SMALL,
        axis=None,
        control=True,
    ),
)

CHANCE = RANDOM + RECOMPUTED + ROUNDED + RESUMED + UNUSUAL
CHANCE_NOT_APPLICABLE = {
    "fp8-grad-amax-not-reduced-under-recompute": "float8 is no dtype of a case, so that nothing has a scale",
    "shard-read-scaled-by-host-count": "all emulated devices are on one host",
    "pp-tied-head-not-loaded": "needs pipeline stages: for the pipeline suite",
}

"""The table of faults: shards that are gathered, scattered or counted wrongly, and controls that gather otherwise."""

from __future__ import annotations

from conformance.faults import Fault
from suites.data.faults.planting import HYBRID, HYBRID_WAYS, SMALL, both
from suites.tensor.faults.planting import github

STEPS = (
    Fault(
        id="gradients-averaged-over-shards",
        summary="The scatter over the shard axis takes the mean of its ranks, the sum over replicas is a sum.",
        bites="fsdp > 1; Adam nearly hides it",
        planted=both("zero3", "shards:AveragedOverShards"),
        contract="data/language_model_sgd",
        meshes=HYBRID_WAYS,
        axis="fsdp",
        causes=("a mean where a sum is meant",),
    ),
    Fault(
        id="shards-scattered-in-reverse",
        summary="Ranks are numbered from the other end where gradients are scattered: each gets another one's shard.",
        bites="fsdp > 1",
        planted=both("zero2", "shards:ScatteredInReverse"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis="fsdp",
        causes=("shards permuted",),
    ),
    Fault(
        id="norm-counts-shards-of-every-replica",
        summary="The squares of shards are summed over all ranks, and each shard has a copy on every replica.",
        bites="hybrid sharding; clipping active, or the norm reported",
        sources=github("NVIDIA-NeMo/RL#3788", "ROCm/TransformerEngine#715"),
        planted=both("zero2", "shards:SquaresSummedOverReplicas"),
        contract="data/language_model_sgd",
        meshes=HYBRID_WAYS,
        axis="data",
        causes=("replicated parameters counted", "summed twice"),
    ),
    Fault(
        id="matmul-shard-order-mismatch",
        summary="Where two axes divide the same dim, shards are cut as if the inner axis were the outer one.",
        bites="a dim that tensor and shard axis both divide",
        sources=github("pytorch/pytorch#166598"),
        planted=both("zero3", "shards:OrderOfAxesExchanged"),
        contract="data/language_model_sgd",
        meshes=("fsdp=2,tensor=2", "data=2,fsdp=2,tensor=2"),
        axis=None,
        causes=("fsdp and tensor together",),
    ),
    Fault(
        id="updated-shards-gathered-too-early",
        summary="One updated parameter is gathered before the update: the model computes with that of the step before.",
        bites="the second step",
        sources=github("NVIDIA/Megatron-LM#950", "NVIDIA/Megatron-LM#663"),
        planted=both("zero1", "shards:GatheredBeforeUpdate"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis=None,
        causes=("stale",),
        seen_by=("trajectory",),
    ),
    Fault(
        id="bucket-reduced-before-last-slice",
        summary="One bucket is reduced before the last slice of the batch is added to it.",
        bites="accumulation >= 2; in the field it depends on timing",
        sources=github("deepspeedai/DeepSpeed#5545", "deepspeedai/DeepSpeed#6351", "EleutherAI/gpt-neox#1004"),
        planted=both("zero2", "shards:ReducedBeforeLastSlice"),
        contract="data/accumulation_uneven",
        meshes=SMALL,
        axis=None,
        causes=("without accumulation",),
    ),
)

GATHERED = (
    Fault(
        id="gathered-together",
        summary="All parameters are gathered before the first layer and kept for the backward pass.",
        bites="never",
        planted=both("zero3", "controls:GatheredTogether"),
        contract="data/language_model_sgd",
        meshes=HYBRID_WAYS,
        axis=None,
        control=True,
    ),
    Fault(
        id="replicas-before-shards",
        summary="Gradients are summed over the replicas before they are scattered over the shard axis.",
        bites="never",
        planted=both("zero2", "controls:ReplicasBeforeShards"),
        contract="data/language_model_sgd",
        meshes=HYBRID_WAYS,
        axis=None,
        control=True,
    ),
)

"""The table of faults, third part: mistakes in the use of torch's own tools, mostly of FSDP2."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.data.faults.targets import HYBRID, SMALL, in_torch
from suites.tensor.faults.targets import github

TORCH = (
    Fault(
        id="gathered-ahead-of-update",
        summary="One parameter of a layer is gathered before the update that it should have waited for.",
        bites="the second step",
        sources=github("NVIDIA/Megatron-LM#950", "NVIDIA/Megatron-LM#663"),
        planted=in_torch("zero3", "LayerGatheredBeforeUpdate"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis=None,
        causes=("stale",),
        seen_by=("trajectory",),
    ),
    Fault(
        id="scattered-before-written",
        summary="A gradient is scattered before it is written: its buffer still holds that of the slice before.",
        bites="accumulation >= 2",
        sources=github("deepspeedai/DeepSpeed#5545", "deepspeedai/DeepSpeed#6351"),
        planted=in_torch("zero3", "BufferScatteredTooEarly"),
        contract="data/accumulation_3",
        meshes=SMALL,
        axis=None,
        causes=("without accumulation", "not count", "count wrongly"),
    ),
    Fault(
        id="fsdp2-mean-of-ranks",
        summary="FSDP2 divides the gradients of loss sums by the number of ranks, which is its default.",
        bites="always; Adam hides it",
        planted=in_torch("fsdp2", "MeanOfRanks"),
        contract="data/language_model_sgd",
        meshes=("fsdp=4",),
        axis=None,
        causes=("a mean where a sum is meant",),
    ),
    Fault(
        id="fsdp2-reduces-in-compute-dtype",
        summary="A policy without a dtype for reductions: gradients are summed in the dtype of the products.",
        bites="products in bfloat16",
        planted=in_torch("fsdp2", "ReducedInComputeDtype"),
        contract="data/cancelling_bfloat16",
        meshes=SMALL,
        dtype="float32",
        axis=None,
        causes=("without precision", "of another size", "bfloat16"),
        seen_by=("exact",),
    ),
    Fault(
        id="fsdp2-module-never-refilled",
        summary="The module is filled once, at the start, and the optimizer updates a copy that it never sees again.",
        bites="the second step",
        sources=github("huggingface/accelerate#2665"),
        planted=in_torch("fsdp2", "StaleMasterCopy"),
        contract="data/language_model_sgd",
        meshes=SMALL,
        axis=None,
        causes=("stale",),
        seen_by=("trajectory",),
    ),
)

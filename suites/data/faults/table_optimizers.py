"""The table of faults: groups of parameters that decay differently, and steps scaled by the norms of whole tensors."""

from __future__ import annotations

from conformance.cases.fault import NO_AXIS, Fault
from suites.data.faults.targets import HYBRID, SMALL, both, in_torch

GROUPS = (
    Fault(
        id="norms-and-biases-decayed",
        summary="A sharded optimizer is built of one group: biases and scales of norms are decayed too.",
        bites="decay groups",
        planted=both("zero1", "optimizers:OneGroup")
        | both("zero3", "optimizers:OneGroup")
        | {"torch-fsdp2": "suites.data.faults.optimizers:OneGroup"},
        contract="data/decay_groups",
        meshes=SMALL,
        axis=NO_AXIS,
        causes=("without decay groups", "weight decay applied once too often"),
        seen_by=("trajectory",),
    ),
    Fault(
        id="decay-groups-of-first-rank",
        summary="Decay groups are made from names that only the first shard rank has; the others decay all.",
        bites="decay groups, fsdp > 1",
        planted=both("zero2", "optimizers:GroupsOfFirstRank") | both("zero3", "optimizers:GroupsOfFirstRank"),
        contract="data/decay_groups",
        meshes=HYBRID,
        axis="fsdp",
        seen_by=("trajectory",),
    ),
    Fault(
        id="flat-shards-undecayed",
        summary="Tensors of one dim are not decayed, and every shard is flat, so nothing is decayed.",
        bites="decay groups told by the number of dims",
        planted=both("zero3", "optimizers:FlatShardsUndecayed"),
        contract="data/decay_groups",
        meshes=SMALL,
        axis=NO_AXIS,
        seen_by=("trajectory",),
    ),
)

RATIOS = (
    Fault(
        id="trust-ratio-of-local-shard",
        summary="Every rank scales its step by the norms of its own shards.",
        bites="LAMB (or LARS) on sharded state",
        planted=both("zero1", "optimizers:NormsOfOwnShards")
        | both("zero3", "optimizers:NormsOfOwnShards")
        | in_torch("fsdp2", "NormsOfLocalTensors"),
        contract="data/lamb",
        meshes=HYBRID,
        axis="fsdp",
        seen_by=("trajectory",),
    ),
    Fault(
        id="trust-ratio-of-added-norms",
        summary="Roots are taken on each rank, and norms are added in place of squares.",
        bites="LAMB (or LARS) on sharded state",
        planted=both("zero2", "optimizers:NormsOfShardsAdded"),
        contract="data/lamb",
        meshes=HYBRID,
        axis="fsdp",
        seen_by=("trajectory",),
    ),
    Fault(
        id="trust-ratio-of-flat-buffer",
        summary="All tensors lie in one buffer, and all steps are scaled by the norms of the buffer.",
        bites="LAMB (or LARS) on flattened state",
        planted=both("zero1", "optimizers:OneRatioForAll"),
        contract="data/lamb",
        meshes=SMALL,
        axis=NO_AXIS,
        seen_by=("trajectory",),
    ),
    Fault(
        id="norms-of-gathered-tensors",
        summary="Whole tensors are gathered, and every rank takes their norms.",
        bites="never",
        planted=both("zero1", "optimizers:NormsOfGathered") | both("zero3", "optimizers:NormsOfGathered"),
        contract="data/lamb",
        meshes=HYBRID,
        axis=None,
        control=True,
    ),
)

OPTIMIZERS = GROUPS + RATIOS

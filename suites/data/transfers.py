"""What sharded state communicates, by formula: the same for both frameworks. Framework-neutral.

P is a parameter as a rank stores it for computing, padding included; S slices of the batch.
Source: Rajbhandari et al., ZeRO, sections 5 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from conformance.contract.implementation import CollectiveKind, Phase
from suites.data.layout import ShardedState
from suites.training.traffic import Transfer

Times = Sequence[tuple[Phase, int]]  # how often in which phase


def of_shard(
    layout: ShardedState, kind: CollectiveKind, phase: Phase, name: str, dtype: str, calls: int = 1
) -> Transfer:
    """P over the shard axis: a parameter that is gathered, or whose gradient is scattered."""
    stored = math.prod(layout.arranged_shape(name, layout.sharded_positions(name)))
    return Transfer(
        kind=kind,
        axes=(layout.shard_axis,),
        phase=phase,
        elements=stored // layout.size(tuple(layout.computed_placements(name))),
        dtype=dtype,
        calls=calls,
        tensor=f"gradients/{name}" if kind == "reduce_scatter" else f"parameters/{name}",
    )


def gathers_of_updated(layout: ShardedState) -> Iterator[Transfer]:
    """Stages 1 and 2: P once, when every rank has updated its shard."""
    for name in layout.contract.shapes:
        yield of_shard(layout, "all_gather", "update", name, layout.stored_dtype)


def scatters_of_slices(layout: ShardedState, times: Times) -> Iterator[Transfer]:
    """Stage 2: P of each gradient, S times. When those of the last slice come is the framework's choice."""
    for name in layout.contract.shapes:
        for phase, calls in times:
            yield of_shard(layout, "reduce_scatter", phase, name, layout.reduction_dtype, calls)


def gathers_and_scatters(layout: ShardedState, is_gathered_again: Callable[[str], bool]) -> Iterator[Transfer]:
    """Stage 3: P gathered S times forward, and again backward where it was not kept; its gradient scattered S times.

    What of a layer a backward pass reads is the framework's choice: a bias that has been added is not needed again.
    """
    slices, compute = layout.contract.recipe.accumulation, layout.compute_dtype
    for name in layout.contract.shapes:
        yield of_shard(layout, "all_gather", "forward", name, compute, slices)
        if layout.is_learned(name):
            yield of_shard(layout, "reduce_scatter", "backward", name, layout.reduction_dtype, slices)
        if is_gathered_again(name):
            yield of_shard(layout, "all_gather", "backward", name, compute, slices)

"""Optimizers of which each rank has the part for its own parameters, as in ZeRO-1, and modules that torch flattened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from conformance.contract.implementation import Sharded
from conformance.contract.placements import Owned, Placement, Replicate
from conformance.inline.torch_model import several
from conformance.workers.observe import Unreadable

FLATTENED = "_fsdp_flattened"  # torch's own mark on what FullyShardedDataParallel (torch 2) has flattened


def local(optimizers: Any) -> list[Any]:
    """The optimizers of this rank; of one that is partitioned over the ranks, the part that lies here."""
    return [each.optim if isinstance(each, ZeroRedundancyOptimizer) else each for each in several(optimizers)]


def is_partitioned(optimizers: Iterable[Any], parameters: Iterable[torch.Tensor]) -> bool:
    """Whether some parameter that asks for a gradient is trained by none of them: another rank may train it."""
    trained = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    return any(p.requires_grad and id(p) not in trained for p in parameters)


def owned(value: Any, device_mesh: Any) -> Any:
    """A tensor that lies on this rank alone, or on the ranks that say so too; one that is sharded is so as well."""
    if isinstance(value, DTensor) or device_mesh is None:
        return value
    sharded = value if isinstance(value, Sharded) else Sharded(local=value, placements={}, shape=tuple(value.shape))
    here = zip(device_mesh.mesh_dim_names, device_mesh.get_coordinate(), strict=True)
    alone: Mapping[str, Placement] = {
        axis: Owned(number) for axis, number in here if isinstance(sharded.placements.get(axis, Replicate()), Replicate)
    }
    return Sharded(local=sharded.local, placements={**sharded.placements, **alone}, shape=tuple(sharded.shape))


def refuse_flattened(parameters: Mapping[str, torch.Tensor], handed_over: Iterable[str]) -> None:
    """Raises Unreadable for gradients that FullyShardedDataParallel keeps as slices of one flattened parameter."""
    given = set(handed_over)
    for name, parameter in parameters.items():
        if getattr(parameter, FLATTENED, False) and f"gradients/{name}" not in given:
            raise Unreadable(
                f"'{name}' is flattened by FullyShardedDataParallel, whose ranks keep slices that do not say how they "
                "lie: shard with `torch.distributed.fsdp.fully_shard`, or return 'gradients' that were copied within "
                "`FullyShardedDataParallel.summon_full_params(model, with_grads=True)`."
            )

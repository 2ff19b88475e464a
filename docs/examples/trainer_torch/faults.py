"""Ten known faults of parallel trainers, each switched on by `--fault NAME`; without one, everything here is right.

Behind each name stands the mesh axis on which it is, and what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ParallelStyle, RowwiseParallel

FAULTS = {
    "norm-gradient-not-reduced": "tp",  # Megatron-LM #1446: the last norm's gradient stays a partial sum
    "norm-gradient-reduced-twice": "tp",  # mcore-bridge PR #101: it is summed although it is whole
    "bias-per-rank": "tp",  # text-generation-inference #1036: a row-parallel bias is added before the sum
    "output-not-reduced": "tp",  # a row-parallel layer hands on its own term of the sum
    "shard-zero": "tp",  # vllm-gguf-plugin #103: every rank loads the shard of the first
    "gradient-sum": "dp",  # gradients are added up over data ranks, and scaled as for their mean
    "mean-of-means": "dp",  # each rank divides by its own number of valid tokens
    "same-rows": "dp",  # every data rank reads the rows of the first
    "norm-of-own-shard": "dp",  # the clipping norm leaves out what the other data ranks hold
    "reduce-bfloat16": "dp",  # gradients are summed over data ranks in bfloat16
}


def in_parameters(fault: str | None, model: nn.Module, tp: int) -> None:
    """What is done to the parameters before they are divided."""
    if fault == "shard-zero":
        weight = model.layers[1].feed_forward.w1.weight
        with torch.no_grad():
            weight.copy_(weight[: len(weight) // tp].repeat(tp, 1))


class NotReduced(RowwiseParallel):
    """Each rank takes its part of the sequence from its own term."""

    @staticmethod
    def _prepare_output_fn(
        layouts: Any, use_local: Any, module: Any, outputs: DTensor, mesh: DeviceMesh
    ) -> torch.Tensor:
        return outputs.to_local().chunk(mesh.size(), dim=1)[mesh.get_local_rank()]


class BiasPerRank(RowwiseParallel):
    """The sum has the bias once from every rank."""

    @staticmethod
    def _prepare_output_fn(
        layouts: Any, use_local: Any, module: Any, outputs: DTensor, mesh: DeviceMesh
    ) -> torch.Tensor:
        bias = module.bias.to_local().detach() * (mesh.size() - 1) / mesh.size()
        outputs = DTensor.from_local(outputs.to_local() + bias, mesh, outputs.placements)
        return outputs.redistribute(placements=layouts).to_local()


def styles(fault: str | None) -> dict[str, ParallelStyle]:
    """Other styles than those of the plan."""
    if fault == "output-not-reduced":
        return {"layers.1.feed_forward.w2": NotReduced(output_layouts=Shard(1))}
    if fault == "bias-per-rank":
        return {"layers.0.feed_forward.w2": BiasPerRank(output_layouts=Shard(1))}
    return {}


def policy(fault: str | None) -> MixedPrecisionPolicy:
    """In which dtypes FSDP works; by default those of the parameters."""
    return MixedPrecisionPolicy(reduce_dtype=torch.bfloat16 if fault == "reduce-bfloat16" else None)


def in_modules(fault: str | None, model: nn.Module) -> None:
    """What is done to the modules after they are divided."""
    if fault == "norm-gradient-not-reduced":
        model.norm.forward = _norm_on_local_weight(model.norm)


def _norm_on_local_weight(norm: nn.Module) -> Any:
    """The gradient of a local weight is taken for whole, though each rank has its part of the sequence."""

    def forward(x: DTensor) -> DTensor:
        y = F.rms_norm(x.to_local(), (x.shape[-1],), norm.weight.to_local(), 1e-5)
        return DTensor.from_local(y, x.device_mesh, x.placements)

    return forward


def rows(fault: str | None, data: int, ranks: int, count: int) -> torch.Tensor:
    """The rows of the batch that a data rank takes."""
    return torch.arange(count).chunk(ranks)[0 if fault == "same-rows" else data]


def valid(fault: str | None, counts: torch.Tensor, own: torch.Tensor, ranks: int) -> torch.Tensor:
    """By how many tokens a rank divides the sum of its losses: all that count, wherever they are."""
    return counts[own].sum() * ranks if fault == "mean-of-means" else counts.sum()


def in_gradients(fault: str | None, model: nn.Module, mesh: DeviceMesh | None) -> None:
    """What is done to the gradients before they are clipped."""
    if fault == "gradient-sum" and mesh is not None:
        for parameter in model.parameters():
            parameter.grad.mul_(mesh["dp"].size())
    if fault == "norm-gradient-reduced-twice" and mesh is not None:
        dist.all_reduce(model.norm.weight.grad.to_local(), group=mesh["tp"].get_group())


def total_norm(fault: str | None, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of all gradients together."""
    if fault == "norm-of-own-shard":
        own = [DTensor.from_local(g.to_local(), g.device_mesh["tp"], g.placements[1:]) for g in gradients]
        return torch.nn.utils.get_total_norm(own).full_tensor()
    return torch.nn.utils.get_total_norm(gradients)

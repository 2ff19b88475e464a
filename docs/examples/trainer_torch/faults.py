"""Ten known faults of parallel trainers, each switched on by `--fault NAME`; without one, the functions are the right ones.

What each is and where it was seen stands in the comment beside it.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

FAULTS = {
    "norm-gradient-not-reduced": "tp",  # Megatron-LM #1446: the last norm's gradient stays a partial sum
    "norm-gradient-reduced-twice": "tp",  # mcore-bridge PR #101: it is summed though it is whole
    "bias-per-rank": "tp",  # text-generation-inference #1036: a row-parallel bias is added before the sum
    "output-not-reduced": "tp",  # a row-parallel layer hands on its partial sum
    "shard-zero": "tp",  # vllm-gguf-plugin #103: every rank loads the shard of rank 0
    "gradient-sum": "dp",  # gradients are added up over data ranks where their mean is meant
    "mean-of-means": "dp",  # each rank divides by its own number of valid tokens
    "same-rows": "dp",  # every data rank reads the rows of the first
    "norm-of-own-shard": "dp",  # the clipping norm leaves out what the other data ranks hold
    "reduce-bfloat16": "dp",  # gradients are summed over data ranks in bfloat16
}
_fault: list[str | None] = [None]


def planted(fault: str | None, model: nn.Module, mesh: DeviceMesh, parallelize: Callable[..., None]) -> None:
    """Parallelize, with a fault in the model if one is named."""
    _fault[0] = fault
    tp, rank = mesh["tp"].size(), mesh["tp"].get_local_rank()
    if fault == "shard-zero":
        weight = model.layers[1].feed_forward.w1.weight
        with torch.no_grad():
            weight.copy_(weight[: len(weight) // tp].repeat(tp, 1))
    parallelize(model, mesh)
    if fault == "bias-per-rank":
        w2 = model.layers[0].feed_forward.w2
        w2.register_forward_hook(lambda module, given, out: out + (tp - 1) * _local(module.bias), prepend=True)
    if fault == "output-not-reduced":
        w2 = model.layers[1].feed_forward.w2
        w2.register_forward_pre_hook(lambda module, given: tuple(_only(x, rank) for x in given))
    if fault == "gradient-sum":
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
    if fault == "reduce-bfloat16":
        from torch.distributed.fsdp import fully_shard  # noqa: F401 - its policy is changed below

        policy = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                group = module._get_fsdp_state()._fsdp_param_group
                if group is not None:
                    group.mp_policy = policy
                    for parameter in group.fsdp_params:
                        parameter.init_dtype_attrs(policy)
                    with suppress(AttributeError):
                        group._init_mp_dtypes()


def _local(value: Any) -> torch.Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _only(value: torch.Tensor, rank: int) -> torch.Tensor:
    return value


def rows(fault: str | None, data: int, ranks: int, count: int) -> torch.Tensor:
    """The rows of the batch that a data rank takes."""
    own = 0 if fault == "same-rows" else data
    return torch.arange(count).chunk(ranks)[own]


def normalised(
    fault: str | None, loss: torch.Tensor, valid: torch.Tensor, targets: torch.Tensor, args: Namespace
) -> torch.Tensor:
    """The sum over a slice, as its part of the mean over all valid tokens of the batch."""
    if fault == "mean-of-means":
        return loss / (targets != -100).sum() / args.accumulate / args.dp
    return loss / valid


def after_backward(fault: str | None, model: nn.Module, mesh: DeviceMesh | None) -> None:
    """What a trainer does to gradients between the backward pass and the clipping: nothing, if it is right."""
    if mesh is None:
        return
    gradient = model.norm.weight.grad
    if fault == "norm-gradient-reduced-twice":
        dist.all_reduce(_local(gradient), group=mesh["tp"].get_group())


def total_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of all gradients together."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm

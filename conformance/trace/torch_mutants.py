"""Mutated collectives in torch: what this rank ends up with when one operator is applied. All ranks do the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.distributed as dist

from conformance.trace.torch_collectives import Call

Flat = torch.Tensor  # one dim; a gather, scatter or all-to-all works on `size` equal blocks of it


def perform(call: Call, x: torch.Tensor) -> Flat:
    """The collective as written, on one operand; the operand stays as it is."""
    x = x.detach().flatten().clone()
    if call.kind == "all_reduce":
        return _reduced(call, x)
    growth = {"all_gather": call.size, "reduce_scatter": 1 / call.size}.get(call.kind, 1)
    out = x.new_empty(round(x.numel() * growth))
    if call.kind == "all_gather":
        dist.all_gather_into_tensor(out, x, group=call.group)
    elif call.kind == "reduce_scatter":
        dist.reduce_scatter_tensor(out, x, group=call.group)
    else:
        dist.all_to_all_single(out, x, group=call.group)
    return out / call.size if call.kind == "reduce_scatter" and call.reduction == "mean" else out


def _reduced(call: Call, x: Flat) -> Flat:
    op = {"max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}.get(call.reduction or "sum", dist.ReduceOp.SUM)
    dist.all_reduce(x, op=op, group=call.group)
    return x / call.size if call.reduction == "mean" else x


def _own_block(call: Call, x: Flat) -> Flat:
    return x.reshape(call.size, -1)[dist.get_rank(call.group)]


def _local(call: Call, x: Flat) -> Flat:
    if call.kind == "all_gather":
        return x.repeat(call.size)
    own = _own_block(call, x)
    return own if call.kind == "reduce_scatter" else own.repeat(call.size)


def _repeat(call: Call, x: Flat) -> Flat:
    once = _reduced(call, x.clone()) if call.kind == "reduce_scatter" else perform(call, x)
    return perform(call, once)


def _sum_to_max(call: Call, x: Flat) -> Flat:
    largest = _reduced(replace(call, reduction="max"), x.clone())
    return _own_block(call, largest) if call.kind == "reduce_scatter" else largest


def _rolled(call: Call, x: Flat) -> Flat:
    if call.kind == "all_gather":
        return perform(call, x).reshape(call.size, -1).roll(1, 0).flatten()
    return perform(call, x.reshape(call.size, -1).roll(1, 0))


MUTANTS: dict[str, Callable[[Call, Flat], Flat]] = {
    "drop": lambda call, x: x,
    "local": _local,
    "repeat": _repeat,
    "sum_to_mean": lambda call, x: (perform(call, x) / call.size).to(x.dtype),
    "mean_to_sum": lambda call, x: (perform(call, x) * call.size).to(x.dtype),
    "sum_to_max": _sum_to_max,
    "rolled": _rolled,
    "low_precision": lambda call, x: perform(call, x.to(torch.bfloat16).to(x.dtype)),
}

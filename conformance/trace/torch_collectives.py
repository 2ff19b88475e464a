"""Collectives as torch dispatches them: read one from its operation and arguments (torch 2.13).

Three families pass the dispatcher: `c10d` (what torch.distributed.all_reduce and its kin call, writing in place),
`_c10d_functional` (returns new tensors; DTensor redistributions use it) and its autograd twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import AsyncCollectiveTensor

from conformance.contract.implementation import CollectiveKind

NAMESPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd")
_REDUCTIONS = {"sum": "sum", "avg": "mean", "max": "max", "min": "min", "product": "product"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One collective as it was issued on this rank.

    operands   what this rank sends; the blocks of a list stacked along a new dim 0
    sent       the same as the program hands it over: tensors, or lists of them
    results    number of elements that comes back for each operand
    outputs    tensors, or lists of tensors, that it writes in place; None when it returns new ones
    even       all blocks are of one size
    """

    kind: CollectiveKind
    reduction: str | None
    group: Any
    operands: tuple[torch.Tensor, ...]
    sent: tuple[Any, ...]
    results: tuple[int, ...]
    outputs: tuple[Any, ...] | None
    even: bool = True

    @property
    def size(self) -> int:
        return int(self.group.size())

    @property
    def payloads(self) -> tuple[tuple[str, int], ...]:
        """Of every operand its dtype, and the bytes of the larger of operand and result."""
        pairs = zip(self.operands, self.results, strict=True)
        return tuple(
            (str(x.dtype).removeprefix("torch."), max(x.numel(), elements) * x.element_size()) for x, elements in pairs
        )


def is_collective(func: Any) -> bool:
    return isinstance(func, torch._ops.OpOverload) and func.namespace in NAMESPACES


def is_receipt(func: Any) -> bool:
    """The receiving end of a message; its operation does not declare that it writes to its first argument."""
    return func.overloadpacket.__name__.rstrip("_") in ("recv", "recv_any_source")


def read_call(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Call | None:
    """The collective behind an operation; None for waiting, barriers and the receiving end of a message."""
    reader = _READERS.get(func.overloadpacket.__name__)
    return reader(list(args), kwargs) if reader else None


def group_of(group: Any) -> Any:
    """The process group behind what an operation was given for one."""
    if isinstance(group, str):
        return dist.distributed_c10d._resolve_process_group(group)  # type: ignore[arg-type, attr-defined, unused-ignore]
    return group if isinstance(group, dist.ProcessGroup) else dist.ProcessGroup.unbox(group)


def _reduction(op: Any) -> str:
    """Functional collectives name their reduction; c10d hands over an object that knows its number."""
    name = op if isinstance(op, str) else dist.ReduceOp.RedOpType(op.op()).name
    return _REDUCTIONS.get(name.lower(), name.lower())


def _operand(x: Any) -> tuple[torch.Tensor, bool]:
    """A tensor, or the blocks of a list stacked; and whether the blocks are of one size."""
    if isinstance(x, torch.Tensor):
        return (x.wait() if isinstance(x, AsyncCollectiveTensor) else x), True
    even = len({block.shape for block in x}) == 1
    return (torch.stack(list(x)) if even else torch.cat([block.flatten() for block in x])), even


def _call(kind: CollectiveKind, sent: Sequence[Any], group: Any, outputs: Any = None, reduction: Any = None) -> Call:
    group, operands = group_of(group), [_operand(x) for x in sent]
    growth = {"all_gather": Fraction(group.size()), "reduce_scatter": Fraction(1, group.size())}.get(kind, Fraction(1))
    return Call(
        kind=kind,
        reduction=None if reduction is None else _reduction(reduction),
        group=group,
        operands=tuple(x for x, _ in operands),
        sent=tuple(sent),
        results=tuple(int(x.numel() * growth) for x, _ in operands),
        outputs=None if outputs is None else tuple(outputs),
        even=all(even for _, even in operands),
    )


def _listed(x: Any) -> list[Any]:
    return [x] if isinstance(x, torch.Tensor) else list(x)


def _all_to_all(sent: Any, group: Any, received_rows: Sequence[int], sent_rows: Sequence[int], outputs: Any) -> Call:
    """Rows are counted per partner; no counts mean equal blocks."""
    call = _call("all_to_all", [sent], group, outputs)
    even = call.even and len({*received_rows, *sent_rows}) <= 1
    (x,) = call.operands
    elements = sum(received_rows) * (x.numel() // max(len(x), 1)) if received_rows else x.numel()
    return replace(call, even=even, results=(elements,))


_READERS: dict[str, Callable[[list[Any], dict[str, Any]], Call]] = {
    # c10d: (outputs, inputs, group, ...), or (tensors, group, ...) where the operand is overwritten
    "allreduce_": lambda a, _: _call("all_reduce", a[0], a[1], a[0], a[2]),
    "allreduce_coalesced_": lambda a, _: _call("all_reduce", a[0], a[1], a[0], a[2]),
    "_allgather_base_": lambda a, _: _call("all_gather", [a[1]], a[2], [a[0]]),
    "allgather_": lambda a, _: _call("all_gather", a[1], a[2], a[0]),
    "allgather_into_tensor_coalesced_": lambda a, _: _call("all_gather", a[1], a[2], a[0]),
    "_reduce_scatter_base_": lambda a, _: _call("reduce_scatter", [a[1]], a[2], [a[0]], a[3]),
    "reduce_scatter_": lambda a, _: _call("reduce_scatter", a[1], a[2], a[0], a[3]),
    "reduce_scatter_tensor_coalesced_": lambda a, _: _call("reduce_scatter", a[1], a[2], a[0], a[3]),
    "alltoall_base_": lambda a, _: _all_to_all(a[1], a[2], a[3], a[4], [a[0]]),
    "alltoall_": lambda a, _: _all_to_all(a[1], a[2], (), (), [a[0]]),
    "broadcast_": lambda a, _: _call("broadcast", a[0], a[1], a[0]),
    "reduce_": lambda a, _: _call("reduce", a[0], a[1], a[0], a[2]),
    "send": lambda a, _: _call("permute", a[0], a[1]),
    # functional: (input, [reduction], [size], group)
    "all_reduce": lambda a, _: _call("all_reduce", [a[0]], a[2], None, a[1]),
    "all_reduce_": lambda a, _: _call("all_reduce", [a[0]], a[2], [a[0]], a[1]),
    "all_reduce_coalesced": lambda a, _: _call("all_reduce", a[0], a[2], None, a[1]),
    "all_reduce_coalesced_": lambda a, _: _call("all_reduce", a[0], a[2], a[0], a[1]),
    "all_gather_into_tensor": lambda a, _: _call("all_gather", [a[0]], a[2]),
    "all_gather_into_tensor_coalesced": lambda a, _: _call("all_gather", a[0], a[2]),
    "all_gather_into_tensor_out": lambda a, k: _call("all_gather", [a[0]], a[2], [k["out"]]),
    "reduce_scatter_tensor": lambda a, _: _call("reduce_scatter", [a[0]], a[3], None, a[1]),
    "reduce_scatter_tensor_coalesced": lambda a, _: _call("reduce_scatter", a[0], a[3], None, a[1]),
    "reduce_scatter_tensor_out": lambda a, k: _call("reduce_scatter", [a[0]], a[3], [k["out"]], a[1]),
    "all_to_all_single": lambda a, _: _all_to_all(a[0], a[3], a[1], a[2], None),
    "broadcast": lambda a, _: _call("broadcast", [a[0]], a[2]),
}


def write(call: Call, results: Sequence[torch.Tensor]) -> None:
    """Put flat results where the collective would have put them."""
    for result, output in zip(results, call.outputs or (), strict=True):
        if isinstance(output, torch.Tensor):
            output.copy_(result.reshape(output.shape))
            continue
        for block, part in zip(result.chunk(len(output)), output, strict=True):
            part.copy_(block.reshape(part.shape))


def shaped(results: Sequence[torch.Tensor], like: Any) -> Any:
    """Flat results in the shape of what the collective returned."""
    new = [result.reshape(template.shape).clone() for result, template in zip(results, _listed(like), strict=True)]
    return new[0] if isinstance(like, torch.Tensor) else new

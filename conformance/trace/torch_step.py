"""One step of a torch program as it is dispatched on one rank: its collectives, its products, the memory that lives.

Level `program`: what the program says, before any kernel is chosen. Combined operands are read as one, as FSDP2 sends
them. An all-to-all that DTensor replaces by an all-gather on a CPU mesh is read as the all-to-all that it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.nn.modules.module import register_module_forward_pre_hook

from conformance.contract.implementation import Phase
from conformance.contract.mesh import Mesh
from conformance.trace.operators import Collective
from conformance.trace.torch_collectives import Call
from conformance.trace.torch_flops import product_flops
from conformance.trace.torch_leaves import is_view, leaves
from conformance.trace.torch_private import within_all_to_all, within_propagation
from conformance.trace.torch_storages import LiveStorages
from conformance.trace.torch_watcher import Watcher, in_backward
from conformance.traffic.collective_op import Buffer, CollectiveOp, Kind, UnattributedError

_ASIDE = ("prim", "profiler")  # questions about a tensor, and marks for a profiler: no operations


class StepReader(Watcher):
    """Sees every operation of a step on plain tensors, those without values too.

    operations  dispatched, views too, without those by which DTensor learns the shape of a result
    flops       dtype -> floating-point operations of matrix products
    memory      storages that live
    kept_bytes  that live when the backward pass begins
    replaced    all-to-alls that the CPU mesh replaced
    """

    def __init__(self, mesh: Mesh, device_mesh: Any) -> None:
        super().__init__(mesh, device_mesh)
        self.operations, self.replaced, self.kept_bytes = 0, 0, 0
        self.flops: Counter[str] = Counter()
        self.memory = LiveStorages()
        self._collectives: Counter[CollectiveOp] = Counter()
        self._propagating, self._instead, self._differentiated = False, False, False
        self._names: dict[int, str] = {}
        self._module = ""
        self._around = ExitStack()

    def __enter__(self) -> Any:
        self._around.enter_context(self.memory.watching_sizes())
        self._around.enter_context(within_propagation(self._propagates))
        self._around.enter_context(within_all_to_all(self._replaces))
        self._around.callback(register_module_forward_pre_hook(self._enters).remove)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._around.close()

    def collectives(self) -> Iterator[CollectiveOp]:
        """Each with the number of times that it was issued."""
        for operation, trips in self._collectives.items():
            yield replace(operation, trips=trips)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in _ASIDE:
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not self._differentiated and in_backward():
            self._differentiated, self.kept_bytes = True, self.memory.bytes
        out = func(*args, **kwargs)
        if self._propagating or not isinstance(func, torch._ops.OpOverload):
            return out
        self.operations += 1
        if not is_view(func):
            results = [leaf for leaf in leaves(out) if isinstance(leaf, torch.Tensor)]
            self.memory.add(results)
            if results and (flops := product_flops(func, args, kwargs, out)):
                self.flops[_name(results[0].dtype)] += flops
        return out

    def collective(self, call: Call, what: Collective, func: Any, args: Any, kwargs: Any) -> Any:
        if not self._propagating:
            self._collectives[self._read(call)] += 1
        return self.operation(func, args, kwargs)

    def _read(self, call: Call) -> CollectiveOp:
        if call.kind not in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"):
            raise UnattributedError(f"A {call.kind} ({self._module or 'no place given'}) is not read at this level.")
        ranks = tuple(self.groups.rank(process) for process in dist.get_process_group_ranks(call.group))
        return CollectiveOp(
            kind="all_to_all" if self._instead else cast(Kind, call.kind),
            groups=(ranks,),
            operands=tuple(Buffer(dtype=_name(x.dtype), elements=x.numel()) for x in call.operands),
            phase=self._phase(),
            level="program",
            where=self._where(),
        )

    def _phase(self) -> Phase:
        """`backward` when autograd issued it, `update` after the work of autograd in the step, else `forward`."""
        if in_backward():
            return "backward"
        return "update" if self._differentiated else "forward"

    def _where(self) -> str:
        """The module that was entered last, all layers alike; of the backward pass only that it is in the layers."""
        words = ["*" if word.isdigit() else word for word in self._module.split(".")]
        if self._phase() == "forward":
            return ".".join(words) or "the model"
        return ".".join(words[: words.index("*") + 1]) if "*" in words and in_backward() else ""

    def _enters(self, module: torch.nn.Module, inputs: Any) -> None:
        if id(module) not in self._names:
            self._names |= {id(part): path for path, part in module.named_modules()}
        self._module = self._names[id(module)]

    def _propagates(self, now: bool) -> None:
        self._propagating = now

    def _replaces(self, now: bool) -> None:
        self._instead, self.replaced = now, self.replaced + now


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

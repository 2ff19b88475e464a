"""What sees every operation of a torch step on plain tensors, with its collectives in order of issue."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from conformance.contract.mesh import Mesh
from conformance.trace.operators import Collective
from conformance.trace.torch_collectives import Call, is_collective, read_call
from conformance.trace.torch_groups import Groups
from conformance.trace.torch_leaves import leaves

Key = tuple[tuple[int, ...], torch.dtype]


class Watcher(TorchDispatchMode):
    """Sees every operation of a step on plain tensors; collectives go to `collective`, in order of issue."""

    def __init__(self, mesh: Mesh, device_mesh: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mesh = mesh
        self.groups = Groups(mesh, device_mesh)
        self._sent: set[Key] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor first: it comes back with local tensors and its own collectives
        if is_collective(func):
            call = read_call(func, args, kwargs)
            axes = self.groups.axes(call.group) if call is not None else ()
            if call is not None and axes:
                return self.collective(call, self._describe(call, axes), func, args, kwargs)
        return self.operation(func, args, kwargs)

    def _describe(self, call: Call, axes: tuple[str, ...]) -> Collective:
        operand = call.operands[0]
        keys = {(tuple(x.shape), x.dtype) for x in call.operands}
        earlier, self._sent = bool(keys & self._sent), self._sent | keys
        shape = tuple(operand.shape)
        return Collective(
            kind=call.kind,
            reduction=call.reduction,
            axes=axes,
            size=call.size,
            shape=shape,
            result=shape if call.results[0] == operand.numel() else (call.results[0],),
            floating_bits=operand.dtype.itemsize * 8 if operand.dtype.is_floating_point else 0,
            has_earlier=earlier,
        )

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        return func(*args, **kwargs)

    def collective(self, call: Call, what: Collective, func: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


def key(x: torch.Tensor) -> Key:
    return tuple(x.shape), x.dtype


def in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def is_imagined(x: Any) -> bool:
    """Sharding propagation runs an operation on tensors without data first, to learn its shape."""
    return isinstance(x, torch.Tensor) and (isinstance(x, FakeTensor) or x.is_meta)


def finish(returned: Any) -> None:
    for leaf in leaves(returned):
        if isinstance(leaf, torch.Tensor):
            torch.ops._c10d_functional.wait_tensor(leaf)
        elif isinstance(leaf, torch.ScriptObject):
            dist.Work.unbox(leaf).wait()

"""Torch on one device in place of a mesh: LocalTensorMode, in which a tensor has a value for each rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np
import torch
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed._local_tensor import LocalTensor, LocalTensorMode, _int_on_rank
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from conformance.cases.case import Case
from conformance.contract.contract import Arrays
from conformance.contract.implementation import Implementation, Reordered, Sharded, Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import holders, local_index, partial_axes
from conformance.evidence.blocks import merged
from conformance.evidence.evidence import Block, Observed
from conformance.evidence.intermediates import Intermediates
from conformance.workers.buffers import Buffer
from conformance.workers.observe import arranged, plain
from conformance.workers.platform import Platform, Step, TracedStep
from conformance.workers.torch_layout import held
from conformance.workers.torch_platform import array_of
from conformance.workers.torch_refusals import refusals
from conformance.workers.torch_state import tensors

METHODS = ("initialize", "place", "step", "collect", "save", "load")


class TorchSinglePlatform(Platform):
    """One process that stands for all ranks; an implementation that would see that it is one is refused."""

    compiles = False

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self._meshes: dict[Mesh, DeviceMesh] = {}

    def prepared(self, implementation: Implementation, case: Case) -> Implementation:
        """The implementation, whose methods run in LocalTensorMode."""
        for name in METHODS:
            setattr(implementation, name, self._local(getattr(implementation, name), case))
        return implementation

    def _local(self, method: Callable[..., Any], case: Case) -> Callable[..., Any]:
        @wraps(method)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._mode(case), refusals():
                return method(*args, **kwargs)

        return run

    def _mode(self, case: Case) -> LocalTensorMode:
        return LocalTensorMode(case.mesh.devices)

    def device_mesh(self, case: Case) -> DeviceMesh:
        if case.mesh not in self._meshes:
            devices = torch.tensor(case.mesh.device_order, device="cpu").reshape(case.mesh.shape)
            with self._mode(case):
                self._meshes[case.mesh] = DeviceMesh(self.device_type, devices, mesh_dim_names=case.mesh.axes)
        return self._meshes[case.mesh]

    def barrier(self) -> None:
        """There is one process."""

    def wait(self, value: Any) -> None:
        if self.device_type != "cpu":
            torch.accelerator.synchronize()

    def observed(self, value: Any, case: Case) -> Observed:
        if isinstance(value, Reordered):
            return arranged(self.observed(value.value, case), value)
        if isinstance(value, DTensor):
            with self._mode(case):
                where, local = value.device_mesh.get_coordinate(), value.to_local()
            return self._of_ranks(local, tuple(value.shape), case, partial(_of_dtensor, value, case.mesh, where or ()))
        if isinstance(value, Sharded):
            return self._of_ranks(value.local, tuple(value.shape), case, partial(_of_sharded, value, case.mesh))
        if isinstance(value, torch.Tensor):
            whole = Sharded(local=value, placements={}, shape=tuple(value.shape))
            return self.observed(whole, case)
        return replace(plain(value, range(case.mesh.devices)), owed_by=tuple(range(case.mesh.devices)))

    def _of_ranks(
        self, local: torch.Tensor, shape: tuple[int, ...], case: Case, place: Callable[[int], Any]
    ) -> Observed:
        blocks, stored, dtype = [], {}, str(local.dtype).removeprefix("torch.")
        owed_by: tuple[int, ...] = ()
        for rank in range(case.mesh.devices):
            index, awaited, factor, owed_by = place(rank)
            own = _at(local, case.mesh.device_order[rank])
            array = array_of(own) if factor == 1 else array_of(own).astype(np.float64) * factor
            stored[rank] = own.numel() * own.element_size()
            blocks.append(Block(ranks=(rank,), index=index, value=array, partial=awaited))
        return Observed(shape=shape, dtype=dtype, blocks=merged(blocks), stored_bytes=stored, owed_by=owed_by)

    def buffers(self, value: Any, case: Case) -> Iterator[Buffer]:
        for path, tensor in tensors(value):
            local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
            for rank, device in enumerate(case.mesh.device_order):
                own = _at(local, device)
                memory = own.untyped_storage()
                yield Buffer(
                    path=path, rank=rank, memory=memory.data_ptr(), bytes=memory.nbytes(), read=partial(array_of, own)
                )

    def watched(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, TracedStep]:
        return step(state, batch), TracedStep(unwatched="its ranks run as one process, which sends nothing")

    def mutated(self, step: Step, state: Any, batch: Arrays, case: Case) -> Step:
        raise Unsupported("No collective is changed where one process stands for all ranks: it sends nothing.")

    def values(self, step: Step, state: Any, batch: Arrays, case: Case) -> Intermediates | None:
        return None


def _at(local: torch.Tensor, device: int) -> torch.Tensor:
    """What one rank has of a tensor; of one without a value for each rank, that of all."""
    local = local.wait() if isinstance(local, AsyncCollectiveTensor) else local
    return local._local_tensors[device].detach() if isinstance(local, LocalTensor) else local.detach()


def _of_dtensor(value: DTensor, mesh: Mesh, coordinates: Sequence[Any], rank: int) -> Any:
    device = mesh.device_order[rank]
    part = held(value, mesh, [_int_on_rank(getattr(c, "node", c), device) for c in coordinates])
    assert part is not None
    return part.index, part.partial, part.factor, ()


def _of_sharded(value: Sharded, mesh: Mesh, rank: int) -> Any:
    shape = tuple(value.shape)
    index = local_index(shape, value.placements, mesh, rank)
    return index, partial_axes(value.placements), 1.0, holders(shape, value.placements, mesh)

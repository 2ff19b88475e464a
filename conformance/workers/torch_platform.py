"""Torch: one rank of a fleet. Every rank executes the case and observes what it holds itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from conformance.cases.case import Case, Mutation
from conformance.contract.contract import Arrays
from conformance.contract.implementation import Reordered, Sharded, Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import holders, local_index, partial_axes, written
from conformance.evidence.evidence import Block, Observed
from conformance.evidence.intermediates import Intermediates
from conformance.evidence.orders import orders_of
from conformance.trace.operators import MutationError
from conformance.trace.torch_computed import WorkCounter
from conformance.trace.torch_sparse import dense, with_memory
from conformance.trace.torch_trace import Mutator, Recorder
from conformance.trace.torch_values import ValueRecorder
from conformance.workers import torch_profile
from conformance.workers.buffers import Buffer
from conformance.workers.folder import shared_parent
from conformance.workers.jobs import RankOperation
from conformance.workers.observe import Unreadable, arranged, plain
from conformance.workers.platform import Platform, Step, TracedStep, Work
from conformance.workers.torch_layout import held
from conformance.workers.torch_state import tensors

# The mesh position of this process, the block of a tensor that it holds, the ranks that hold some of it.
Place = tuple[int, tuple[slice, ...], tuple[int, ...]]
NARROW = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


ONE_DEVICE = Mesh.parse("data=1")


class TorchPlatform(Platform):
    compiles = False

    def __init__(self, device_type: str = "cpu") -> None:
        super().__init__()
        self.device_type = device_type
        self._meshes: dict[Mesh, DeviceMesh] = {}
        self._places: dict[tuple[Any, ...], Place] = {}
        self.is_leader = dist.get_rank() == 0 if dist.is_initialized() else True

    def barrier(self) -> None:
        dist.barrier()

    @contextmanager
    def shared_folder(self) -> Iterator[Path]:
        """Rank 0 makes it and removes it, when all have left it."""
        name = [tempfile.mkdtemp(prefix="shardproof-", dir=shared_parent()) if self.is_leader else ""]
        dist.broadcast_object_list(name)
        try:
            self._require_shared(name[0])
            yield Path(name[0])
        finally:
            self.barrier()
            if self.is_leader:
                shutil.rmtree(name[0], ignore_errors=True)

    def _require_shared(self, folder: str) -> None:
        seen = torch.tensor(int(Path(folder).is_dir()))
        dist.all_reduce(seen, op=dist.ReduceOp.MIN)
        if not seen:
            raise Unsupported("Rank 0 makes a folder that not every host sees: nothing is saved there.")

    def device_mesh(self, case: Case) -> DeviceMesh:
        if case.mesh not in self._meshes:
            devices = torch.tensor(case.mesh.device_order, device="cpu").reshape(case.mesh.shape)
            self._meshes[case.mesh] = DeviceMesh(self.device_type, devices, mesh_dim_names=case.mesh.axes)
        return self._meshes[case.mesh]

    def rank(self, mesh: Mesh) -> int:
        """The mesh position of this process."""
        return mesh.device_order.index(dist.get_rank())

    def wait(self, value: Any) -> None:
        """On the CPU an operation has finished when it returns."""
        if self.device_type != "cpu":
            torch.accelerator.synchronize()

    def observed(self, value: Any, case: Case) -> Observed:
        if isinstance(value, Reordered):
            return arranged(self.observed(value.value, case), value)
        if isinstance(value, DTensor):
            return self._distributed(value, case.mesh)
        if isinstance(value, Sharded):
            return self._sharded(value, case.mesh)
        if isinstance(value, torch.Tensor):
            whole = Sharded(local=value, placements={}, shape=tuple(value.shape))
            return self._sharded(whole, case.mesh)
        return replace(plain(value, [self.rank(case.mesh)]), owed_by=tuple(range(case.mesh.devices)))

    def _distributed(self, value: DTensor, mesh: Mesh) -> Observed:
        """By its own mesh; where this rank has no part in it, no block."""
        local, part = _finished(value), held(value, mesh)
        observed = Observed(shape=tuple(value.shape), dtype=str(local.dtype).removeprefix("torch."), blocks=())
        if part is None:
            return observed
        rank, wanted = self.rank(mesh), tuple(map(_length, part.index))
        if tuple(local.shape) != wanted:
            raise Unreadable(
                f"rank {rank} holds a block of shape {tuple(local.shape)}; placements {value.placements} of a DTensor "
                f"of shape {tuple(value.shape)} on {value.device_mesh} give it {wanted}"
            )
        array = array_of(local) if part.factor == 1 else array_of(local).astype(np.float64) * part.factor
        block = Block(ranks=(rank,), index=part.index, value=array, partial=part.partial)
        return replace(observed, blocks=(block,), stored_bytes={rank: local.numel() * local.element_size()})

    def _sharded(self, value: Sharded, mesh: Mesh) -> Observed:
        (rank, index, owed_by), local = self._place(value, mesh), value.local.detach()
        wanted = tuple(part.stop - part.start for part in index)
        if tuple(local.shape) != wanted:
            raise Unreadable(
                f"rank {rank} holds a block of shape {tuple(local.shape)}; placements {written(value.placements)} of a "
                f"tensor of shape {tuple(value.shape)} give it {wanted}{_foreign(value, mesh)}"
            )
        block = Block(ranks=(rank,), index=index, value=array_of(local), partial=partial_axes(value.placements))
        return Observed(
            shape=tuple(value.shape),
            dtype=str(local.dtype).removeprefix("torch."),
            blocks=(block,),
            stored_bytes={rank: local.numel() * local.element_size()},
            owed_by=owed_by,
        )

    def _place(self, value: Sharded, mesh: Mesh) -> Place:
        """Where this process is and what it holds; remembered: every step asks for the same."""
        key = (tuple(value.shape), tuple(value.placements.items()), mesh)
        if key not in self._places:
            rank = self.rank(mesh)
            index = local_index(key[0], value.placements, mesh, rank)
            self._places[key] = rank, index, holders(key[0], value.placements, mesh)
        return self._places[key]

    def buffers(self, value: Any, case: Case) -> Iterator[Buffer]:
        rank = self.rank(case.mesh)
        for path, tensor in tensors(value):
            local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
            local = local.wait() if isinstance(local, AsyncCollectiveTensor) else local
            memory = local.untyped_storage()
            yield Buffer(
                path=path, rank=rank, memory=memory.data_ptr(), bytes=memory.nbytes(), read=partial(_bits, local)
            )

    def watched(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, TracedStep]:
        widest = case.dtype == "float64"
        with Recorder(case.mesh, self.device_mesh(case), 64 if widest else 32) as recorder:
            returned = step(state, batch)
        rank, computed, values = self.rank(case.mesh), recorder.computed(), _local_values(returned)
        arithmetic = recorder.lower_precision(values.values()) if widest else recorder.arithmetic(values)
        return returned, TracedStep(
            traffic=recorder.traffic(),
            flops={rank: recorder.flops()},
            computed={} if computed is None else {rank: computed},
            arithmetic=arithmetic,
            sites=recorder.sites(),
            unseen=recorder.unseen,
        )

    def values(self, step: Step, state: Any, batch: Arrays, case: Case) -> Intermediates:
        recorder = ValueRecorder(case.mesh, self.device_mesh(case), self.rank(case.mesh))

        def recorded(state: Any, batch: Arrays) -> Any:
            with recorder:  # inside of the mutation: it sees what the collectives of the program give
                return step(state, batch)

        run = recorded if case.mutation is None else self.mutated(recorded, state, batch, case)
        returned = run(state, batch)
        seen: Intermediates = recorder.intermediates(_local_values(returned))
        return replace(seen, orders=orders_of(_observations(returned)))

    def reference_values(self, step: Step, state: Any, batch: Arrays) -> Intermediates:
        with ValueRecorder(ONE_DEVICE, None, 0) as recorder:
            returned = step(state, batch)
        seen: Intermediates = recorder.intermediates(_local_values(returned))
        return seen

    def profiled(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[RankOperation, ...]:
        return torch_profile.operations(lambda: step(state, batch), self.rank(case.mesh))

    def mutated(self, step: Step, state: Any, batch: Arrays, case: Case) -> Step:
        assert case.mutation is not None
        mutation = case.mutation

        def mutant(state: Any, batch: Arrays) -> Any:
            with Mutator(mutation, case.mesh, self.device_mesh(case)) as mutator:
                returned = step(state, batch)
            _applied_somewhere(mutation, mutator.applied)
            return returned

        return mutant


def _observations(returned: Any) -> Mapping[str, Any]:
    """Those of a step; none where it returns something else."""
    observed = returned[1] if isinstance(returned, tuple) and len(returned) == 2 else {}
    return observed if isinstance(observed, Mapping) else {}


def _local_values(returned: Any) -> dict[str, torch.Tensor]:
    """The tensors of this rank behind the observations of a step; whatever else they are is told elsewhere."""
    local_values = {name: _local(value) for name, value in _observations(returned).items()}
    return {name: value for name, value in local_values.items() if isinstance(value, torch.Tensor)}


def _local(value: Any) -> Any:
    if isinstance(value, Reordered):
        return _local(value.value)
    if isinstance(value, Sharded):
        return _local(value.local)
    value = value._local_tensor if isinstance(value, DTensor) else value
    value = value.elem if isinstance(value, AsyncCollectiveTensor) else value
    return with_memory(value) if isinstance(value, torch.Tensor) else value


def _applied_somewhere(mutation: Mutation, here: bool) -> None:
    """A mutation that met its collective on no rank has changed nothing, and must not pass for one that survived."""
    anywhere = torch.tensor(int(here))
    dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
    if not anywhere:
        raise MutationError(
            f"There is no collective {mutation.site} in the step that '{mutation.operator}' could change."
        )


def _finished(value: DTensor) -> torch.Tensor:
    """The local tensor; one that a collective is still writing is waited for."""
    local = value.to_local().detach()
    return local.wait() if isinstance(local, AsyncCollectiveTensor) else local


def _length(part: slice | np.ndarray) -> int:
    return part.stop - part.start if isinstance(part, slice) else len(part)


def _foreign(value: Sharded, mesh: Mesh) -> str:
    """What to say of axes that are named but not there."""
    names = [axis for axis in value.placements if axis not in mesh.axes]
    return f"; the mesh {mesh} has no axis {' and '.join(map(repr, names))}" if names else ""


def _bits(local: torch.Tensor) -> np.ndarray:
    return array_of(local.detach())


def array_of(local: torch.Tensor) -> np.ndarray:
    """A local tensor as numpy has it; narrow dtypes as float32, which holds them exactly."""
    if local.is_complex():
        raise Unreadable("it is complex: return its real and its imaginary part as two observations")
    local = dense(local)
    return (local.float() if local.dtype in NARROW else local).contiguous().cpu().numpy().copy()


def work(step: Step, state: Any, batch: Arrays) -> Work:
    """What a step of one device calculates."""
    with WorkCounter() as counter:
        step(state, batch)
    return counter.flops, counter.operations


def to_numpy(value: Any) -> np.ndarray:
    value = dense(value.detach()).double().numpy() if isinstance(value, torch.Tensor) else value
    return np.asarray(value, dtype=np.float64)

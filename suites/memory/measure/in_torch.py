"""Torch: what autograd saves in the forward pass of one rank, counted by hooks, and CPU seconds of its step.

The other ranks are torch's fake process group: shapes and saved tensors are those of a rank of the mesh, values are
not, and communication costs nothing. `python -m suites.memory.measure.in_torch` prints the figures as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from conformance.records.formatting import count
from suites.memory.measure.figure import Figure
from suites.memory.measure.programs import ACCUMULATIONS, MESH, POLICIES, measured, spilled_from
from suites.memory.torch_manual.model import LanguageModel
from suites.memory.torch_manual.spilling import Spilled

REPEATS = 5


@dataclass
class Saved:
    """Tensors kept for the backward pass, by memory; those in host memory apart."""

    on_device: dict[int, Tensor] = field(default_factory=dict)
    on_host: dict[int, Tensor] = field(default_factory=dict)

    def add(self, kept: Tensor | Spilled, stays: set[int]) -> None:
        tensor, place = (kept.host, self.on_host) if isinstance(kept, Spilled) else (kept, self.on_device)
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in stays:
            place[memory.data_ptr()] = tensor

    def device_bytes(self) -> int:
        return _bytes(self.on_device)

    def host_bytes(self) -> int:
        return _bytes(self.on_host)


class Counted(LanguageModel):
    """The model with everything noted that a forward pass keeps; `kept` has a count for each slice."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.kept: list[Saved] = []

    def forward(self, p: dict[str, Tensor], batch: dict[str, Tensor]) -> Any:
        self.kept.append(Saved())
        if self.contract.recipe.spill is not None:
            return super().forward(p, batch)
        stays = _memories(p)
        with saved_tensors_hooks(lambda tensor: self.seen(tensor, stays), lambda tensor: tensor):
            return super().forward(p, batch)

    def seen(self, kept: Any, stays: set[int]) -> Any:
        self.kept[-1].add(kept, stays)
        return kept

    def put_away(self, saved: Tensor, stays: set[int]) -> Any:
        return self.seen(super().put_away(saved, stays), stays)

    def reduce_from(self, x: Tensor, axis: str) -> Tensor:
        """A sum that the second run of a layer takes is kept too, by no graph."""
        y = super().reduce_from(x, axis)
        if self.noted:
            self.seen(self.noted[-1], set())
        return y


def figures() -> Iterator[Figure]:
    for policy in POLICIES:
        saved, seconds = kept_of(measured("small", recompute=policy))
        yield _figure("checkpointing", policy, "saved residuals", saved.device_bytes(), seconds)
    threshold = spilled_from("small")
    saved, seconds = kept_of(measured("small", spill=threshold))
    policy = f"spilled from {threshold // 1024} KiB"
    yield _figure("spill", policy, "saved residuals", saved.device_bytes(), seconds)
    yield _figure("spill", policy, "moved to host", saved.host_bytes(), seconds)
    for slices in ACCUMULATIONS:
        saved, seconds = kept_of(measured("small", accumulation=slices))
        yield _figure("accumulation", count(slices, "slice"), "saved residuals", saved.device_bytes(), seconds)


def _figure(group: str, policy: str, kind: str, size: int, seconds: float) -> Figure:
    return Figure(
        group=group, policy=policy, framework="torch", mesh=MESH, shape="small", kind=kind, level="program", bytes=size,
        seconds=seconds,
    )  # fmt: skip


def kept_of(contract: Contract, repeats: int = REPEATS) -> tuple[Saved, float]:
    """What is kept of the first slice, on the rank that keeps most; the shortest step of any rank."""
    mesh, counts, seconds = Mesh.parse(MESH), [], []
    for rank in range(mesh.devices):
        dist.init_process_group("fake", rank=rank, world_size=mesh.devices, store=FakeStore())
        try:
            device_mesh = DeviceMesh("cpu", torch.arange(mesh.devices).reshape(mesh.shape), mesh_dim_names=mesh.axes)
            made = Counted(contract, mesh, "float32")
            seconds.append(_seconds(made, made.place(contract.parameters(0), device_mesh), repeats))
            counts.append(made.kept[0])
        finally:
            dist.destroy_process_group()
    return max(counts, key=Saved.device_bytes), min(seconds)


def _seconds(made: Any, state: Any, repeats: int) -> float:
    batch, taken = made.contract.batches(0, 1)[0], []
    for _ in range(repeats):
        started = time.process_time()
        state, _ = made.step(state, batch)
        taken.append(time.process_time() - started)
    return min(taken)


def _memories(p: dict[str, Tensor]) -> set[int]:
    return {value.untyped_storage().data_ptr() for value in p.values()}


def _bytes(tensors: dict[int, Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([figure.record() for figure in figures()]))

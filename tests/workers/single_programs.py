"""Torch programs for one process that stands for all ranks: one that is wrong, and those that must be refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from mlp_torch import TensorParallelMLP


class Halved(TensorParallelMLP):
    """The sum over the tensor axis takes the part of the first rank only."""

    framework = "torch"

    def forward(self, x: Any, p: Any) -> Any:
        y = super().forward(x, p)
        local = y.to_local()
        return DTensor.from_local(local * 0.5, y.device_mesh, y.placements, run_check=False) + p["down.bias"] * 0.5


class AsksForItsRank(TensorParallelMLP):
    framework = "torch"

    def step(self, state: Any, batch: Any) -> Any:
        if dist.get_rank() == 0:
            batch = batch | {"mask": batch["mask"] * 1}
        return super().step(state, batch)


class AsksForItsPlace(TensorParallelMLP):
    framework = "torch"

    def place(self, parameters: Any, mesh: Any) -> Any:
        self.first = mesh.get_local_rank("tensor") == 0
        return super().place(parameters, mesh)


class AsksForItsCoordinate(TensorParallelMLP):
    """In the backward pass, which torch calls."""

    framework = "torch"

    def forward(self, x: Any, p: Any) -> Any:
        y = super().forward(x, p)
        y.register_hook(lambda g: g if self.device_mesh.get_coordinate()[0] == 0 else g * 1)
        return y


class CommunicatesByHand(TensorParallelMLP):
    framework = "torch"

    def step(self, state: Any, batch: Any) -> Any:
        state, seen = super().step(state, batch)
        dist.all_reduce(seen["loss"], group=self.device_mesh.get_group("data"), op=dist.ReduceOp.MAX)
        return state, seen


class UsesFSDP2(TensorParallelMLP):
    framework = "torch"

    def place(self, parameters: Any, mesh: Any) -> Any:
        fully_shard(torch.nn.Linear(4, 4), mesh=mesh["data"])
        return super().place(parameters, mesh)

"""Torch faults for the tests of the laws: each is a mixin that is put in front of `lawful_torch.Lawful`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


class PlaceInGroup:
    """A group sorts its ranks: on reversed devices the rank in it is not the place in the mesh."""

    def use(self, mesh: Any) -> None:
        super().use(mesh)  # type: ignore[misc]
        self.place_in_data = mesh.get_local_rank("data")


class OneRankChecks:
    """Only rank 0 looks, and the others go on without it."""

    def check(self, folder: Path) -> None:
        if dist.get_rank() == 0:
            super().check(folder)  # type: ignore[misc]

    def load(self, folder: Path, mesh: Any) -> Any:
        try:
            return super().load(folder, mesh)  # type: ignore[misc]
        except Exception:
            if dist.get_rank() == 0:
                raise
            return super().place(self.contract.parameters(0), mesh)  # type: ignore[misc,attr-defined]


class MomentumForgotten:
    def load(self, folder: Path, mesh: Any) -> Any:
        state = super().load(folder, mesh)  # type: ignore[misc]
        zeros = {name: torch.zeros_like(value) for name, value in state["momentum"].items()}
        return state | {"momentum": zeros}


class RankInDraw:
    def initialize(self, seed: int, mesh: Any) -> Any:
        return super().initialize(seed + dist.get_rank(), mesh)  # type: ignore[misc]


class SizeOfTheLast:
    """How many features there are is kept where every model of the process finds it."""

    size = [0]  # noqa: RUF012 - the state that must not be there

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.size[0] = self.contract.shapes["b"][0]  # type: ignore[attr-defined]
        return super().place(parameters, mesh)  # type: ignore[misc]

    def total(self, x: Any) -> Any:
        return super().total(x) * self.size[0] / self.contract.shapes["b"][0]  # type: ignore[misc,attr-defined]


class SizeOfTheFirst(SizeOfTheLast):
    size = [0]  # noqa: RUF012 - its own

    def place(self, parameters: dict, mesh: Any) -> Any:
        first = self.size[0] or self.contract.shapes["b"][0]  # type: ignore[attr-defined]
        state = super().place(parameters, mesh)
        self.size[0] = first
        return state

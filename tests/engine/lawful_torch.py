"""Torch programs for the tests of the laws: data parallel, without dropout."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from conformance.contract.implementation import Implementation, Sharded


def rows_loss(p: dict, inputs_BSI: Any, mask_BS: Any) -> Any:
    y_BSO = inputs_BSI.cumsum(1) @ p["w"] + p["b"]
    return 0.5 * (mask_BS[:, :, None] * y_BSO**2).sum(), y_BSO


def gradients_of(p: dict, inputs_BSI: Any, mask_BS: Any) -> Any:
    leaves = {name: value.detach().requires_grad_() for name, value in p.items()}
    loss, y_BSO = rows_loss(leaves, inputs_BSI, mask_BS)
    gradients = torch.autograd.grad(loss, tuple(leaves.values()))
    return dict(zip(leaves, gradients, strict=True)), loss.detach(), y_BSO.detach()


def updated(state: dict, gradients: dict) -> dict:
    momentum = {name: 0.5 * state["momentum"][name] + g for name, g in gradients.items()}
    moved = {name: value - 0.125 * momentum[name] for name, value in state["parameters"].items()}
    return {"parameters": moved, "momentum": momentum, "count": state["count"] + 1}


def named(state: dict) -> dict:
    named = {f"parameters/{name}": value for name, value in state["parameters"].items()}
    named |= {f"optimizer/momentum/{name}": value for name, value in state["momentum"].items()}
    return named | {"optimizer/count": state["count"]}


def observed(gradients: dict, loss: Any, tokens: Any) -> tuple[dict, dict]:
    weight = torch.where(tokens == 0, 1, tokens)
    gradients = {name: g / weight for name, g in gradients.items()}
    seen = {"loss": loss / weight, "metrics/tokens": tokens}
    seen["metrics/grad_norm"] = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
    return gradients, seen | {f"gradients/{name}": g for name, g in gradients.items()}


class Reference:
    def __init__(self, contract: Any, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)

    def place(self, parameters: dict) -> Any:
        start = {name: torch.tensor(value, dtype=self.dtype) for name, value in parameters.items()}
        zeros = {name: torch.zeros_like(value) for name, value in start.items()}
        return {"parameters": start, "momentum": zeros, "count": 0}

    def step(self, state: Any, batch: dict) -> Any:
        inputs, mask = (torch.tensor(batch[key], dtype=self.dtype) for key in ("inputs", "mask"))
        sums, loss, y = gradients_of(state["parameters"], inputs, mask)
        gradients, seen = observed(sums, loss, mask.sum())
        return updated(state, gradients), {"outputs/y": y} | seen

    def collect(self, state: Any) -> Any:
        return named(state)


class Lawful(Implementation, Reference):
    """Rows over `data`, parameters on every rank; slices of the batch one after the other."""

    framework = "torch"

    def __init__(self, contract: Any, mesh: Any, dtype: str) -> None:
        Implementation.__init__(self, contract, mesh, dtype)
        self.dtype = getattr(torch, dtype)

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.use(mesh)
        return Reference.place(self, parameters)

    def use(self, mesh: Any) -> None:
        axes = mesh.mesh_dim_names
        self.group = mesh.get_group("data") if "data" in axes else None
        # Not `get_local_rank`: groups sort their ranks, so on reversed devices it is not the place in the mesh.
        self.place_in_data = mesh.get_coordinate()[axes.index("data")] if "data" in axes else 0

    def step(self, state: Any, batch: dict) -> Any:
        size = self.mesh.size("data")
        inputs, mask = (torch.tensor(batch[key], dtype=self.dtype).chunk(size)[self.place_in_data]
                        for key in ("inputs", "mask"))  # fmt: skip
        number = self.contract.recipe.accumulation
        parts = [gradients_of(state["parameters"], *part)
                 for part in zip(inputs.chunk(number), mask.chunk(number), strict=True)]  # fmt: skip
        sums = {name: self.total(sum(part[0][name] for part in parts)) for name in state["parameters"]}
        gradients, seen = observed(sums, self.total(sum(part[1] for part in parts)), self.total(mask.sum()))
        y = torch.cat([part[2] for part in parts])
        whole = (y.shape[0] * size, *y.shape[1:])
        placements = {"data": "S(0)"} if size > 1 else {}
        return updated(state, gradients), {"outputs/y": Sharded(local=y, placements=placements, shape=whole)} | seen

    def total(self, x: Any) -> Any:
        x = x.clone()
        if self.group is not None:
            dist.all_reduce(x, group=self.group)
        return x

    def collect(self, state: Any) -> Any:
        return named(state)

    def initialize(self, seed: int, mesh: Any) -> Any:
        self.use(mesh)
        generator = torch.Generator().manual_seed(seed)
        return Reference.place(self, {name: torch.randn(shape, generator=generator).double().numpy()
                                      for name, shape in self.contract.shapes.items()})  # fmt: skip

    def save(self, state: Any, folder: Path) -> None:
        if dist.get_rank() == 0:
            torch.save(state, folder / "state.pt")
            digest = hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest()
            (folder / "meta.json").write_text(json.dumps(digest))

    def load(self, folder: Path, mesh: Any) -> Any:
        """Every rank reads all, so that all of them refuse together."""
        self.use(mesh)
        self.check(folder)
        return torch.load(folder / "state.pt", weights_only=True)

    def check(self, folder: Path) -> None:
        if hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest() != json.loads(
            (folder / "meta.json").read_text()
        ):
            raise ValueError("The state is damaged.")

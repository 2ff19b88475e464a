"""Trainers in the manner of Megatron; their collectives are those of the example in the docs."""

import sys
from pathlib import Path

import torch
from models_torch import FEATURES, ROWS, adamw
from torch import nn

from conformance import Declarations, Traffic

sys.path.append(str(Path(__file__).parents[3] / "docs" / "examples"))
from test_megatron_style import Copy, Reduce, shard


class Megatron:
    """Local shards with the attributes that Megatron's layers put on theirs."""

    def __init__(self, model, mesh, dtype):
        self.dtype, self.group = dtype, mesh.get_group("tensor")
        for layer, name, dim in ((model.up, "weight", 0), (model.up, "bias", 0), (model.down, "weight", 1)):
            setattr(layer, name, self.local(getattr(layer, name), dim, mesh))
        self.model, self.optimizer = model, adamw(model)

    def local(self, parameter, dim, mesh):
        return shard(parameter, dim, mesh)

    def step(self, batch):
        p = {name: value.to(self.dtype) for name, value in self.model.named_parameters()}
        hidden = torch.tanh(Copy.apply(batch["x"], self.group) @ p["up.weight"].mT + p["up.bias"])
        y = Reduce.apply(hidden @ p["down.weight"].mT, self.group) + p["down.bias"]
        loss = ((y - batch["target"]) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss.detach(), "outputs/y": y.detach()}


class Silent(Megatron):
    """Nothing says how its shards lie."""

    def local(self, parameter, dim, mesh):
        return nn.Parameter(super().local(parameter, dim, mesh).detach())


LAYOUT = {"up.weight": {"tensor": "S(0)"}, "up.bias": {"tensor": "S(0)"}, "down.weight": {"tensor": "S(1)"}}


def reduced(mesh, dtype):
    """One sum of the outputs forward; none backward, since the inputs have no gradient."""
    size = 8 if dtype == "float64" else 4
    sent = Traffic(kind="all_reduce", axes=("tensor",), phase="forward", calls=1, bytes=ROWS * FEATURES * size)
    return Declarations(traffic=(sent,), layout=LAYOUT)


def nothing(mesh, dtype):
    return Declarations(traffic=())

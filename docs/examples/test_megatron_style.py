"""A class in the manner of Megatron: local shards with attributes, hand-written collectives; held to one device."""

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import conformance


class Copy(torch.autograd.Function):
    """The same forward; backward, gradients are summed."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class Reduce(torch.autograd.Function):
    """A sum forward; backward, the same."""

    @staticmethod
    def forward(ctx, x, group):
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Block(nn.Module):
    """On one device, and on each rank of a tensor axis, whose layers are local."""

    def __init__(self, group=None):
        super().__init__()
        self.group, self.up, self.down = group, nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        if self.group is None:
            return self.down(torch.tanh(self.up(x)))
        hidden = torch.tanh(self.up(Copy.apply(x, self.group)))
        return Reduce.apply(hidden @ self.down.weight.T, self.group) + self.down.bias


def shard(parameter, dim, mesh):
    local = nn.Parameter(parameter.detach().chunk(mesh.size(), dim)[mesh.get_local_rank()].clone())
    local.tensor_model_parallel, local.partition_dim = True, dim
    return local


def loss_of(model, batch):
    y = model(batch["x"])
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)


class Trainer:
    def __init__(self, model, mesh):
        model.group = mesh.get_group("tensor")
        model.up.weight, model.up.bias = shard(model.up.weight, 0, mesh), shard(model.up.bias, 0, mesh)
        model.down.weight = shard(model.down.weight, 1, mesh)
        self.model, self.optimizer = model, adamw(model)

    def step(self, batch):
        loss, outputs = loss_of(self.model, batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, outputs


def test_megatron_style():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    judgement = conformance.check(
        reference=loss_of,
        candidate=Trainer,
        parameters=Block(),
        batch={"x": rng.normal(size=(10, 6)), "target": rng.normal(size=(10, 6))},
        optimizer=adamw,
        mesh="tensor=4",
    )
    assert judgement.passed, str(judgement)

"""Somebody's own sharded function in torch, checked in their own test; it runs on every rank."""

import numpy as np
import torch
import torch.distributed as dist

import conformance
from conformance import Sharded

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 6))}
BATCH = {"x": rng.normal(size=(10, 6))}


def reference(parameters, batch):
    y = torch.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return (y**2).mean(), {"y": y}


def candidate(parameters, batch, mesh):
    rank, size = mesh.get_local_rank("tensor"), mesh.size()
    up = parameters["up"].chunk(size, 1)[rank].detach().clone().requires_grad_()
    down = parameters["down"].chunk(size, 0)[rank].detach().clone().requires_grad_()
    part = torch.tanh(batch["x"] @ up) @ down
    y = part.detach().clone()
    dist.all_reduce(y, group=mesh.get_group("tensor"))
    part.backward(2 * y / y.numel())  # the gradient of mean(y^2), the same on every rank
    return {
        "outputs/y": y,
        "loss": (y**2).mean(),
        "gradients/down": Sharded(local=down.grad, placements={"tensor": "S(0)"}, shape=(8, 6)),
        "gradients/up": Sharded(local=up.grad, placements={"tensor": "S(1)"}, shape=(6, 8)),
    }


def test_my_sharded_function():
    judgement = conformance.check(
        reference=reference, candidate=candidate, parameters=PARAMETERS, batch=BATCH, mesh="tensor=4"
    )
    assert judgement.passed, str(judgement)

"""A module made tensor-parallel by `parallelize_module`, held to one device: forward, loss and every gradient."""

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import conformance


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(6, 10), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def loss_of(model, batch):
    y = model(batch["x"])
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def tensor_parallel(model, batch, mesh):
    columns = ColwiseParallel(use_local_output=False)  # 10 features over 4 ranks: 3, 3, 3, 1
    parallelize_module(model, mesh["tensor"], {"gate": columns, "up": columns, "down": RowwiseParallel()})
    loss, outputs = loss_of(model, batch)
    loss.backward()
    return loss, outputs


def test_tensor_parallel():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    matrix = conformance.check_matrix(
        reference=loss_of,
        candidate=tensor_parallel,
        parameters=Gated(),
        batch={"x": rng.normal(size=(5, 6)), "target": rng.normal(size=(5, 6))},
        meshes=["tensor=2", "tensor=4"],
        dtypes=["float64", "bfloat16"],
    )
    assert matrix.passed, str(matrix)

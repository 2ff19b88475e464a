"""A trainer with FSDP2, mixed precision and clipping, held to one device: three steps, everything compared."""

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.utils import clip_grad_norm_

import conformance
from conformance import Sharded


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def loss_of(model, batch):
    y = model(batch["x"])
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3, weight_decay=0.1)


class Trainer:
    def __init__(self, model, mesh, dtype):
        self.mesh, self.model = mesh["data"], model
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=next(model.parameters()).dtype)
        fully_shard([model.up, model.down], mesh=self.mesh, mp_policy=policy)
        fully_shard(model, mesh=self.mesh, mp_policy=policy)
        self.optimizer = adamw(model)

    def step(self, batch):
        rank, size = self.mesh.get_local_rank(), self.mesh.size()
        loss, outputs = loss_of(self.model, {key: value.chunk(size)[rank] for key, value in batch.items()})
        loss.backward()  # FSDP2 averages the gradients over the ranks
        norm = clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {
            "loss": Sharded(local=loss / size, placements={"data": "P"}, shape=()),
            "outputs/y": Sharded(local=outputs["y"], placements={"data": "S(0)"}, shape=tuple(batch["x"].shape)),
            "metrics/grad_norm": norm.full_tensor(),
        }


def test_fsdp2():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    matrix = conformance.check_matrix(
        reference=loss_of,
        candidate=Trainer,
        parameters=Block(),
        batch={"x": rng.normal(size=(8, 6)), "target": rng.normal(size=(8, 6))},
        optimizer=adamw,
        clip_norm=0.5,
        meshes=["data=2", "data=4"],
        dtypes=["float64", "bfloat16"],
    )
    assert matrix.passed, str(matrix)

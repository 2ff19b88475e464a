"""Right torch candidates of many kinds, on every rank; run as a script, it prints verdicts."""

import os

import numpy as np
import torch
import torch.distributed as dist
from answering import answer_for
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from conformance import Sharded

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 6))}
BATCH = {"x": rng.normal(size=(12, 6))}
SHAPES = {"up.weight": (12, 8), "up.bias": (12,), "down.weight": (8, 12), "down.bias": (8,)}
WEIGHTS = {name: rng.normal(size=shape) / 2 for name, shape in SHAPES.items()}


def reference(parameters, batch):
    y = torch.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return (y**2).mean(), {"y": y}


def in_single(parameters, batch):
    """The elementwise part in float32, as a library does it."""
    y = torch.tanh((batch["x"] @ parameters["up"]).float()).double() @ parameters["down"]
    return (y**2).mean(), {"y": y}


def single_loss(parameters, batch):
    return reference(parameters, batch)[0].float().sqrt().double() ** 2, {}


def wide_loss(parameters, batch):
    return reference(parameters, batch)[0], {}


def whole_step(parameters, batch, mesh, function=reference):
    loss, outputs = function(parameters, batch)
    gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    returned = {f"outputs/{name}": y.detach() for name, y in outputs.items()} | {"loss": loss.detach()}
    return returned | {f"gradients/{name}": g for name, g in gradients.items()}


def single_step(parameters, batch, mesh):
    return whole_step(parameters, batch, mesh, in_single)


def single_loss_step(parameters, batch, mesh):
    return whole_step(parameters, batch, mesh, single_loss)


def placed(parameters, batch, own, up, down, x):
    """DTensors on a mesh of one's own, its placements those of that mesh; sums are left partial."""
    up = distribute_tensor(parameters["up"].detach(), own, up).requires_grad_()
    down = distribute_tensor(parameters["down"].detach(), own, down).requires_grad_()
    y = torch.tanh(distribute_tensor(batch["x"], own, x) @ up) @ down
    loss = (y**2).mean()
    loss.backward()
    return {"loss": loss.detach(), "outputs/y": y.detach(), "gradients/up": up.grad, "gradients/down": down.grad}


COLUMNS, ROWS, BOTH = [Shard(1), Replicate()], [Shard(0), Replicate()], [Replicate(), Shard(0)]


def other_names(parameters, batch, mesh):
    assert (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) == (dist.get_rank(), mesh.size())
    assert {"LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)
    own = init_device_mesh("cpu", (2, 2), mesh_dim_names=("mp", "batch"))
    return placed(parameters, batch, own, COLUMNS, ROWS, BOTH)


def other_order(parameters, batch, mesh):
    own = DeviceMesh("cpu", torch.arange(4).reshape(2, 2).t().contiguous(), mesh_dim_names=("mp", "batch"))
    return placed(parameters, batch, own, COLUMNS, ROWS, BOTH)


def flat(parameters, batch, mesh):
    own = init_device_mesh("cpu", (1, 4), mesh_dim_names=("pp", "world"))
    return placed(parameters, batch, own, [Replicate()] * 2, [Replicate()] * 2, BOTH)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


def block_reference(parameters, batch):
    y = torch.func.functional_call(Block(), parameters, (batch["x"],))
    return (y**2).mean(), {"y": y}


def fsdp2_over_tensor(parameters, batch, mesh):
    block = Block().to(parameters["up.weight"].dtype)
    block.load_state_dict(parameters)
    parallelize_module(block, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(block, mesh=mesh["data"])
    rank, size = mesh.get_local_rank("data"), mesh["data"].size()
    y = block(batch["x"].chunk(size)[rank])
    loss = (y**2).mean()
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean, group=mesh.get_group("data"))
    outputs = Sharded(local=y.detach(), placements={"data": "S(0)"}, shape=(4, 8))
    return {"loss": mean / size, "outputs/y": outputs} | {f"gradients/{n}": p.grad for n, p in block.named_parameters()}


def raises(parameters, batch, mesh):
    return batch["y"]


WHOLE = {"replicated_axes": ("data", "tensor")}  # every rank runs all of it
KINDS = {
    "single reference": WHOLE | {"candidate": whole_step, "reference": in_single},
    "single both": WHOLE | {"candidate": single_step, "reference": in_single},
    "single candidate": WHOLE | {"candidate": single_step},
    "single loss": WHOLE | {"candidate": single_loss_step, "reference": wide_loss},
    "other names": {"candidate": other_names},
    "other names in bfloat16": {"candidate": other_names, "dtype": "bfloat16"},
    "other order": {"candidate": other_order},
    "flat": {"candidate": flat},
    "strided": {
        "candidate": fsdp2_over_tensor,
        "reference": block_reference,
        "parameters": WEIGHTS,
        "batch": {"x": rng.normal(size=(4, 8))},
    },
    "raises": {"candidate": raises},
}


if __name__ == "__main__":
    answer_for(KINDS, reference=reference, parameters=PARAMETERS, batch=BATCH, mesh="data=2,tensor=2")

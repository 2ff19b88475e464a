"""Functions in torch that take one step, right ones and broken ones."""

import time

import numpy as np
import torch
from models_torch import FEATURES, HIDDEN, ROWS, loss_of
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from conformance import Sharded

rng = np.random.default_rng(1)
PLAN = {"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel()}  # 10 features over 4 ranks


def tensor_parallel(model, batch, mesh):
    parallelize_module(model, mesh["tensor"], PLAN)
    loss, outputs = loss_of(model, batch)
    loss.backward()
    return loss, outputs


def tensor_parallel_of_half(model, batch, mesh):
    """A planted fault: the second layer leaves out the last rank."""
    with torch.no_grad():
        model.down.weight[:, -1] = 0
    return tensor_parallel(model, batch, mesh)


def tensor_parallel_forward(model, batch, mesh):
    parallelize_module(model, mesh["tensor"], PLAN)
    return {"outputs/y": model(batch["x"]).detach()}


def forward_of_a_rank(model, batch, mesh):
    parallelize_module(model, mesh["tensor"], PLAN | {"down": RowwiseParallel(output_layouts=Shard(0))})
    y = model(batch["x"]).detach()
    return {"outputs/y": Sharded(local=y.flip(0), placements={"tensor": "S(0)"}, shape=(ROWS, FEATURES))}


TREE = {
    "layers": [
        {"w": rng.normal(size=(FEATURES, HIDDEN)), "b": rng.normal(size=HIDDEN)},
        {"w": rng.normal(size=(HIDDEN, FEATURES)), "b": rng.normal(size=FEATURES)},
    ],
    "scale": (rng.normal(size=FEATURES),),
}


def tree_loss(tree, batch):
    x = batch["x"]
    for layer in tree["layers"]:
        x = torch.tanh(x @ layer["w"] + layer["b"])
    y = x * tree["scale"][0]
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def tree_step(tree, batch, mesh):
    """DTensors over data: the batch is divided, parameters are not."""
    whole_mesh = mesh["data"]
    tensors = [tree["layers"][0]["w"], tree["layers"][0]["b"], tree["layers"][1]["w"], tree["layers"][1]["b"],
               tree["scale"][0]]  # fmt: skip
    placed = [distribute_tensor(t.detach(), whole_mesh, [Replicate()]).requires_grad_() for t in tensors]
    made = {"layers": [{"w": placed[0], "b": placed[1]}, {"w": placed[2], "b": placed[3]}], "scale": (placed[4],)}
    divided = {key: distribute_tensor(value, whole_mesh, [Shard(0)]) for key, value in batch.items()}
    loss, outputs = tree_loss(made, divided)
    loss.backward()
    gradients = {"layers": [{"w": placed[0].grad, "b": placed[1].grad}, {"w": placed[2].grad, "b": placed[3].grad}],
                 "scale": (placed[4].grad,)}  # fmt: skip
    return {"loss": loss.detach(), "outputs": {"y": outputs["y"].detach()}, "gradients": gradients}


def crossed_tree_step(tree, batch, mesh):
    """A planted fault: the gradients of the two biases... are scaled by the number of ranks."""
    seen = tree_step(tree, batch, mesh)
    seen["gradients"]["layers"][1]["b"] = seen["gradients"]["layers"][1]["b"] * mesh.size()
    return seen


def attention(parameters, batch):
    weights = torch.softmax(batch["q"] @ batch["k"].mT, -1)
    return {"out": weights @ batch["v"]}


def attention_of_rows(parameters, batch, mesh):
    rank, size = mesh.get_local_rank("sequence"), mesh.size()
    out = attention(parameters, batch | {"q": batch["q"].chunk(size, -2)[rank]})["out"]
    return {"outputs/out": Sharded(local=out, placements={"sequence": "S(1)"}, shape=tuple(batch["v"].shape))}


def attention_of_blocks(parameters, batch, mesh):
    """A planted fault: a rank sees its own block of keys alone."""
    rank, size = mesh.get_local_rank("sequence"), mesh.size()
    own = {key: value.chunk(size, -2)[rank] for key, value in batch.items()}
    out = attention(parameters, own)["out"]
    return {"outputs/out": Sharded(local=out, placements={"sequence": "S(1)"}, shape=tuple(batch["v"].shape))}


ATTENTION = {key: rng.normal(size=(2, 10, 4)) for key in ("q", "k", "v")}


def sleeping(model, batch, mesh):
    time.sleep(600)

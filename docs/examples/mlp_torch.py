"""Somebody's own tensor-parallel feed-forward block in torch, all in DTensor, held to the contract `tensor/mlp`."""

import torch
import torch.nn.functional as F
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from conformance import Implementation

DIMS = {"up.weight": 1, "up.bias": 0, "down.weight": 0, "down.bias": None}  # which dim the tensor axis divides


class TensorParallelMLP(Implementation):
    framework = "torch"

    def place(self, parameters, mesh):
        self.device_mesh, self.master = mesh, torch.float64 if self.dtype == "float64" else torch.float32
        values = {name: self.put(value, tensor=DIMS[name.partition(".")[2]]) for name, value in parameters.items()}
        return {"parameters": values, "momentum": {name: p * 0 for name, p in values.items()}, "count": 0}

    def put(self, value, data=None, tensor=None, dtype=None):
        """The dims of an array that the axes divide."""
        dims = {"data": data, "tensor": tensor}
        placements = [Replicate() if dims[axis] is None else Shard(dims[axis]) for axis in self.mesh.axes]
        return distribute_tensor(
            torch.tensor(value, dtype=dtype or self.master), self.device_mesh, placements, src_data_rank=None
        )

    def step(self, state, batch):
        recipe, masters = self.contract.recipe, state["parameters"]
        x = self.put(batch["inputs"], data=0).requires_grad_()
        targets, mask = self.put(batch["targets"], data=0), self.put(batch["mask"], data=0)
        wide = {name: p.detach().requires_grad_() for name, p in masters.items()}
        y = self.forward(x, {name.partition(".")[2]: p for name, p in wide.items()})
        tokens = mask.sum().full_tensor()
        error = (y.to(self.master) - targets) * mask.unsqueeze(-1)
        loss = (0.5 * error.square().sum() / (tokens.clamp(min=1) * y.shape[-1])).full_tensor()
        loss.backward()
        gradients = {name: p.grad.redistribute(placements=masters[name].placements) for name, p in wide.items()}
        norm = sum(g.square().sum().full_tensor() for g in gradients.values()).sqrt()
        clip = (recipe.clip_norm / norm).clamp(max=1)
        momentum, parameters = {}, {}
        for name, p in masters.items():
            decayed = gradients[name] * clip + recipe.weight_decay * p
            momentum[name] = recipe.momentum * state["momentum"][name] + decayed
            parameters[name] = p - recipe.learning_rate * momentum[name]
        seen = {"outputs/y": y.detach(), "loss": loss.detach(), "metrics/tokens": tokens, "metrics/grad_norm": norm}
        seen |= {f"gradients/{name}": g for name, g in gradients.items()} | {"input_gradients/inputs": x.grad}
        return {"parameters": parameters, "momentum": momentum, "count": state["count"] + 1}, seen

    def forward(self, x, p):
        p, x = {name: value.to(self.compute) for name, value in p.items()}, x.to(self.compute)
        hidden = F.gelu(x @ p["up.weight"] + p["up.bias"], approximate="tanh")
        y = hidden @ p["down.weight"]
        placements = [Replicate() if axis == "tensor" else Shard(0) for axis in self.mesh.axes]
        return y.redistribute(placements=placements) + p["down.bias"]

    @property
    def compute(self):
        return getattr(torch, self.dtype)

    def collect(self, state):
        found = {f"parameters/{name}": value for name, value in state["parameters"].items()}
        found |= {f"optimizer/momentum/{name}": value for name, value in state["momentum"].items()}
        return found | {"optimizer/count": state["count"]}

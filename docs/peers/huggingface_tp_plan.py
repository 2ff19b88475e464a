"""Hugging Face transformers: a `tp_plan`, applied to parameters and modules."""

from perceptron import module
from torch.distributed.tensor import DTensor
from transformers.distributed.tensor_parallel import apply_tensor_parallelism

MESH = "tensor=2"
PLAN = {"0.weight": "colwise", "0": "colwise", "2.weight": "rowwise", "2": "rowwise"}


def candidate(parameters, batch, mesh):
    model = apply_tensor_parallelism(module(parameters), mesh["tensor"], PLAN)
    y = model(batch["x"])
    loss = (y**2).mean()
    loss.backward()
    y, loss = (value.full_tensor() if isinstance(value, DTensor) else value for value in (y, loss))
    grads = {"gradients/up": model[0].weight.grad, "gradients/down": model[2].weight.grad}
    return {"loss": loss.detach(), "outputs/y": y.detach()} | {name: g.full_tensor().T for name, g in grads.items()}

"""An embedding whose padded table is divided inside the step, and one that every rank looks up whole; torch."""

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from answering import answer_for

rng = np.random.default_rng(8)
PARAMETERS = {"embedding": rng.normal(size=(10, 6)), "w": rng.normal(size=(6, 6)) / 2}
BATCH = {"ids": rng.permutation(np.arange(24) % 10).reshape(4, 6), "target": rng.normal(size=(4, 6, 6))}


def reference(parameters, batch):
    y = torch.tanh(F.embedding(batch["ids"], parameters["embedding"]) @ parameters["w"])
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


class Sum(torch.autograd.Function):
    """Summed over the ranks; its gradient is the same on all of them, and passes as it is."""

    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def trained(parameters, batch, looked_up):
    p = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    y = torch.tanh(looked_up(p["embedding"], batch["ids"]) @ p["w"])
    loss = ((y - batch["target"]) ** 2).mean()
    loss.backward()
    return {"loss": loss.detach(), "outputs/y": y.detach()}, {name: value.grad for name, value in p.items()}


def in_parts(parameters, batch, mesh):
    """Ten rows, padded to twelve: three for each rank, all else on every one."""

    def looked_up(table, ids):
        own = F.pad(table, (0, 0, 0, 2))[3 * dist.get_rank() : 3 * dist.get_rank() + 3]
        local = ids - 3 * dist.get_rank()
        here = (local >= 0) & (local < 3)
        return Sum.apply(F.embedding(torch.where(here, local, 0), own) * here[..., None])

    returned, gradients = trained(parameters, batch, looked_up)
    dist.all_reduce(gradients["embedding"])
    return returned | {f"gradients/{name}": value for name, value in gradients.items()}


def whole(parameters, batch, mesh):
    returned, gradients = trained(parameters, batch, lambda table, ids: F.embedding(ids, table))
    for gradient in gradients.values():
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return returned | {f"gradients/{name}": value for name, value in gradients.items()}


KINDS = {"table in parts": {"candidate": in_parts}, "table whole": {"candidate": whole}}


if __name__ == "__main__":
    answer_for(KINDS, reference=reference, parameters=PARAMETERS, batch=BATCH, mesh="tensor=4")

"""torch: `DistributedDataParallel`."""

import torch
import torch.distributed as dist
from perceptron import module
from torch.nn.parallel import DistributedDataParallel

from conformance import Sharded

MESH = "data=4"


def candidate(parameters, batch, mesh):
    model = DistributedDataParallel(module(parameters), process_group=mesh.get_group("data"))
    y = model(batch["x"].chunk(mesh.size())[mesh.get_local_rank()])
    loss = (y**2).mean()
    loss.backward()  # DDP averages over data
    layers, mean = model.module, loss.detach().clone()
    dist.all_reduce(mean, group=mesh.get_group("data"))
    return {
        "loss": mean / mesh.size(),
        "outputs/y": Sharded(local=y.detach(), placements={"data": "S(0)"}, shape=(16, 12)),
        "gradients/up": torch.clone(layers[0].weight.grad.T),
        "gradients/down": torch.clone(layers[2].weight.grad.T),
    }

"""Optimizers in parts, parameters that nothing reaches, torch's own averages, hollow programs; a script of verdicts."""

import numpy as np
import torch
import torch.distributed as dist
from answering import answer_for
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from conformance import Sharded

rng = np.random.default_rng(0)
BATCH = {"x": rng.normal(size=(8, 6)), "y": rng.normal(size=(8, 4))}
TWINS = {name: np.concatenate([value[:4]] * 2) for name, value in BATCH.items()}
OPTIONS = {"lr": 1e-2, "eps": 1e-3, "weight_decay": 0.1}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


class Unreached(Block):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2, bias=False)


def loss_of(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


def own(batch, mesh):
    return {name: value.chunk(mesh.size())[mesh.get_local_rank()] for name, value in batch.items()}


def mean(loss, mesh):
    return Sharded(local=loss.detach() / mesh.size(), placements={"data": "P"}, shape=())


def adamw(model):
    return torch.optim.AdamW(model.parameters(), **OPTIONS)


def still(model):
    return torch.optim.SGD(model.parameters(), 0.0)


def average(model):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))


class Parallel:
    optimizer_of = staticmethod(adamw)

    def __init__(self, model, mesh):
        self.mesh, self.model, self.ema = mesh, model, average(model)
        self.parallel = DistributedDataParallel(model, find_unused_parameters=True)
        self.optimizer = self.optimizer_of(model)

    def step(self, batch):
        loss = loss_of(self.parallel, own(batch, self.mesh))
        loss.backward()
        self.optimizer.step()
        self.share()
        self.ema.update_parameters(self.model)
        gradients = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad()
        return {"loss": mean(loss, self.mesh), "gradients": gradients}

    def share(self):
        pass


class Redundancy(Parallel):
    @staticmethod
    def optimizer_of(model):
        return ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, **OPTIONS)


class Parts(Parallel):
    """Each rank trains every second parameter, and sends it to the others."""

    @staticmethod
    def optimizer_of(model):
        return torch.optim.AdamW([*model.parameters()][dist.get_rank() :: 2], **OPTIONS)

    def share(self):
        for number, parameter in enumerate(self.model.parameters()):
            dist.broadcast(parameter.data, number % 2)


class OnePart(Parts):
    """A planted fault: all ranks train the same half."""

    @staticmethod
    def optimizer_of(model):
        return torch.optim.AdamW([*model.parameters()][::2], **OPTIONS)


class Still(Parallel):
    optimizer_of = staticmethod(still)


def flattened(model, batch, mesh):
    loss = loss_of(
        FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu")), own(batch, mesh)
    )
    loss.backward()
    return {"loss": mean(loss, mesh)}


def of_everything(model, batch, mesh):
    """The reference on every rank, of which each hands a part over."""
    loss = loss_of(model, batch)
    loss.backward()
    size, rank = mesh.size(), mesh.get_local_rank()
    return {"loss": loss.detach()} | {
        f"gradients/{name}": Sharded(local=p.grad.chunk(size)[rank], placements={"data": "S(0)"}, shape=tuple(p.shape))
        for name, p in model.named_parameters()
    }


def first_alone(model, batch, mesh):
    """A planted fault: the first rank does it all and tells the other."""
    told = {"loss": torch.zeros((), dtype=batch["x"].dtype)}
    told |= {f"gradients/{name}": torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    if dist.get_rank() == 0:
        loss = loss_of(model, batch)
        loss.backward()
        told = {"loss": loss.detach()} | {f"gradients/{name}": p.grad for name, p in model.named_parameters()}
    for value in told.values():
        dist.broadcast(value, 0)
    return told


def unreduced(model, batch, mesh):
    """A planted fault: no rank hears of the others."""
    loss = loss_of(model, own(batch, mesh))
    loss.backward()
    return {"loss": loss.detach()}


TRAINED = {"candidate": Parallel, "optimizer": adamw}
SPARE = {"parameters": Unreached()}
KINDS = {
    "zero redundancy": TRAINED | {"candidate": Redundancy},
    "zero redundancy in float32": TRAINED | {"candidate": Redundancy, "dtype": "float32"},
    "parts": TRAINED | {"candidate": Parts},
    "one part": TRAINED | {"candidate": OnePart},
    "unreached": TRAINED | SPARE | {"still": ("gradients/spare.weight",)},
    "unreached and unsaid": TRAINED | SPARE,
    "torch's average": TRAINED | {"ema": average},
    "torch's average for a decay": TRAINED | {"ema": 0.75},
    "learns nothing": TRAINED | {"candidate": Still, "optimizer": still},
    "learns nothing on purpose": TRAINED | {"candidate": Still, "optimizer": still, "still": ("updates",)},
    "flattened": {"candidate": flattened},
    "of everything": {"candidate": of_everything},
    "first alone": {"candidate": first_alone},
    "unreduced": {"candidate": unreduced},
    "unreduced twins": {"candidate": unreduced, "batch": TWINS},
}


if __name__ == "__main__":
    torch.manual_seed(0)
    answer_for(KINDS, reference=loss_of, parameters=Block(), batch=BATCH, mesh="data=2")

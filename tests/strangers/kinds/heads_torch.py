"""A model whose heads are not reached in every step, and its trainers, right ones and broken ones."""

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from conformance import Sharded

rng = np.random.default_rng(0)
ROWS, FEATURES = 8, 6


def batch(which, open=1):
    """Rows, the head of each, and whether the body is trained."""
    x, y = rng.normal(size=(ROWS, FEATURES)), rng.normal(size=(ROWS, 3))
    return {"x": x, "y": y, "which": np.array(which), "open": np.array(open)}


BY_STEP = [batch([n] * ROWS) for n in (0, 1, 0)]
BY_ROW = [batch([0, 0, 1, 1, 1, 1, 1, 1]), batch([2] * ROWS), batch([0, 1, 1, 1, 1, 1, 0, 0])]
CLOSING = [batch([0, 1, 2, 0, 1, 2, 0, 1], open) for open in (1, 1, 0)]


class Heads(nn.Module):
    """Each row goes to one head; a head without rows is not reached."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.heads = nn.Linear(FEATURES, 5), nn.ModuleList(nn.Linear(5, 3) for _ in range(3))

    def forward(self, x, which):
        h = torch.tanh(self.body(x))
        y = h.new_zeros(len(x), 3)
        for number in which.unique().tolist():
            y = y.index_put((torch.where(which == number)[0],), self.heads[number](h[which == number]))
        return y


def heads_loss(model, batch):
    return ((model(batch["x"], batch["which"]) - batch["y"]) ** 2).mean()


def closing_loss(model, batch):
    model.body.requires_grad_(bool(batch["open"]))
    return heads_loss(model, batch)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3, weight_decay=0.1)


def plain(model):
    return torch.optim.SGD(model.parameters(), lr=0.5)


def own(batch, mesh):
    return {key: value.chunk(mesh.size())[mesh.get_local_rank()] if value.ndim else value
            for key, value in batch.items()}  # fmt: skip


def mean(loss, mesh):
    return Sharded(local=loss.detach() / mesh.size(), placements={"data": "P"}, shape=())


def averaged(gradient, mesh):
    dist.all_reduce(gradient, group=mesh.get_group())
    return gradient / mesh.size()


class Trainer:
    """Gradients are averaged by hand; where no rank has one there is none."""

    loss_of, optimizer_of = staticmethod(heads_loss), staticmethod(adamw)

    def __init__(self, model, mesh):
        self.model, self.mesh, self.optimizer = model, mesh, self.optimizer_of(model)

    def step(self, batch):
        self.before()
        loss = self.loss_of(self.model, own(batch, self.mesh))
        loss.backward()
        self.reduce()
        for optimizer in self.optimizer if isinstance(self.optimizer, list) else [self.optimizer]:
            optimizer.step()
        self.after()
        return {"loss": mean(loss, self.mesh)}

    def before(self):
        self.model.zero_grad()

    def after(self):
        pass

    def reduce(self):
        for p in self.model.parameters():
            reached = torch.tensor(float(p.grad is not None))
            dist.all_reduce(reached)
            if reached:
                p.grad = averaged(torch.zeros_like(p) if p.grad is None else p.grad, self.mesh)


class Parallel(Trainer):
    def __init__(self, model, mesh):
        super().__init__(model, mesh)
        self.parallel = DistributedDataParallel(model, find_unused_parameters=True)

    def loss_of(self, model, batch):
        return heads_loss(self.parallel, batch)

    def reduce(self):
        pass


class ZeroedAtTheEnd(Parallel):
    def before(self):
        pass

    def after(self):
        self.optimizer.zero_grad()


class KeepsZeros(Parallel):
    """As torch did before version 2: an optimizer moves what has zeros."""

    def before(self):
        self.model.zero_grad(set_to_none=False)


class KeepsZerosOfSgd(KeepsZeros):
    """Without momentum or decay, zeros move nothing."""

    optimizer_of = staticmethod(plain)


class KeepsZerosAlone:
    """The same on one device."""

    def __init__(self, model, mesh):
        self.model, self.optimizer = model, adamw(model)

    def step(self, batch):
        self.model.zero_grad(set_to_none=False)
        loss = heads_loss(self.model, batch)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss}


class TwoOptimizers(Parallel):
    @staticmethod
    def optimizer_of(model):
        options = {"lr": 1e-2, "eps": 1e-3, "weight_decay": 0.1}
        return [torch.optim.AdamW(part.parameters(), **options) for part in (model.body, model.heads)]


class InSlices(Parallel):
    """Two slices of its rows, one after the other."""

    def loss_of(self, model, batch):
        halves = [{k: v.chunk(2)[n] if v.ndim else v for k, v in batch.items()} for n in range(2)]
        with self.parallel.no_sync():
            first = heads_loss(self.parallel, halves[0]) / 2
            first.backward()
        return first.detach() + heads_loss(self.parallel, halves[1]) / 2


class OneRankWithout(Trainer):
    """A planted fault: a rank without rows for a head has no gradient of it."""

    def reduce(self):
        reached = [p.grad is not None for p in self.model.parameters()]
        super().reduce()
        for p, here in zip(self.model.parameters(), reached, strict=True):
            p.grad = p.grad if here else None


class Detached(Parallel):
    """A planted fault: the last head learns nothing."""

    def __init__(self, model, mesh):
        super().__init__(model, mesh)
        model.heads[2].requires_grad_(False)
        self.parallel = DistributedDataParallel(model, find_unused_parameters=True)


class Closing(Trainer):
    loss_of = staticmethod(closing_loss)


class NeverClosed(Trainer):
    """A planted fault: the body is trained in every step."""

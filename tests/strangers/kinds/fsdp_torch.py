"""Trainers with FSDP2, right ones and broken ones."""

import torch
from models_torch import (
    adamw,
    in_groups,
    loss_of,
    loss_of_words,
)
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard
from torch.nn.utils import clip_grad_norm_


def rows(batch, mesh):
    """Those of this rank of a data mesh."""
    return {key: value.chunk(mesh.size())[mesh.get_local_rank()] for key, value in batch.items()}


def whole(y, loss, mesh):
    """Outputs and loss of all ranks of a data mesh that has one dim."""
    y = DTensor.from_local(y.detach(), mesh, [Shard(0)], run_check=False)
    loss = DTensor.from_local(loss.detach() / mesh.size(), mesh, [Partial()], run_check=False).full_tensor()
    return {"loss": loss, "outputs/y": y}


class Fsdp:
    """FSDP2 over data; FSDP2 itself takes the mean over ranks."""

    def __init__(self, model, mesh, dtype):
        self.mesh, self.model = mesh["data"], model
        reduce = None if dtype == torch.float64 else torch.float32
        fully_shard(model, mesh=self.mesh, mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduce))
        self.optimizer = self.made()

    def made(self):
        return adamw(self.model)

    def step(self, batch):
        seen = self.differentiated(rows(batch, self.mesh))
        seen["metrics/grad_norm"] = self.clipped()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return seen

    def differentiated(self, batch):
        loss, outputs = self.loss(batch)
        loss.backward()
        return whole(outputs["y"], loss, self.mesh)

    def loss(self, batch):
        return loss_of(self.model, batch)

    def clipped(self):
        return clip_grad_norm_(self.model.parameters(), 0.25).full_tensor()


class Accumulating(Fsdp):
    slices = 3

    def differentiated(self, batch):
        parts = []
        for n in range(self.slices):
            part = {key: value.chunk(self.slices)[n] for key, value in batch.items()}
            loss, outputs = self.loss(part)
            self.scaled(loss).backward()
            parts.append((loss.detach(), outputs["y"]))
        losses, ys = zip(*parts, strict=True)
        return whole(torch.cat(ys), sum(losses) / self.slices, self.mesh)

    def scaled(self, loss):
        return loss / self.slices


class AccumulatesSums(Accumulating):
    """A planted fault: the loss of a slice is not divided by their number."""

    def scaled(self, loss):
        return loss


class ClipsUnseen(Fsdp):
    """Clips by arithmetic of its own."""

    def clipped(self):
        norm = self.norm([p.grad for p in self.model.parameters()])
        for p in self.model.parameters():
            p.grad.to_local().mul_((0.25 / (norm + 1e-6)).clamp(max=1))
        return norm

    def norm(self, gradients):
        return sum((g**2).sum().full_tensor() for g in gradients).sqrt()


class ClipsItself(ClipsUnseen):
    def step(self, batch):
        seen = super().step(batch)
        return seen | {"gradients": self.before}

    def norm(self, gradients):
        self.before = {name: p.grad.clone() for name, p in self.model.named_parameters()}
        return super().norm(gradients)


class OwnNorm(ClipsItself):
    """A planted fault: each rank clips by the norm of its own shards."""

    def norm(self, gradients):
        super().norm(gradients)
        return sum((g.to_local() ** 2).sum() for g in gradients).sqrt()


class KeepsGradients(Fsdp):
    """A planted fault: gradients are never set to zero."""

    def step(self, batch):
        seen = self.differentiated(rows(batch, self.mesh))
        self.optimizer.step()
        return seen


class Unclipped(Fsdp):
    def step(self, batch):
        seen = self.differentiated(rows(batch, self.mesh))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return seen


class Grouped(Unclipped):
    def made(self):
        return in_groups(self.model)


class OneGroup(Unclipped):
    """A planted fault: biases decay too."""

    def made(self):
        return torch.optim.AdamW(self.model.parameters(), lr=0.05, eps=1e-3, weight_decay=0.5)


class Early(Unclipped):
    """A planted fault: the optimizer is made before the model is divided."""

    def __init__(self, model, mesh, dtype):
        early = adamw(model)
        super().__init__(model, mesh, dtype)
        self.optimizer = early


class Averaging(Unclipped):
    def __init__(self, model, mesh, dtype):
        super().__init__(model, mesh, dtype)
        self.ema = {name: p.detach().clone() for name, p in model.named_parameters()}

    def step(self, batch):
        seen = super().step(batch)
        self.follow()
        return seen

    def follow(self):
        for name, p in self.model.named_parameters():
            self.ema[name].mul_(0.75).add_(p.detach(), alpha=0.25)


class AveragingBefore(Averaging):
    """A planted fault: the average follows the parameters before they are updated."""

    def step(self, batch):
        self.follow()
        return super(Averaging, self).step(batch)


class Words(Unclipped):
    def loss(self, batch):
        return loss_of_words(self.model, batch)


class Untied(Words):
    """A planted fault: dividing the model has made two weights of one."""

    def __init__(self, model, mesh, dtype):
        model.head.weight = nn.Parameter(model.embed.weight.detach().clone())
        super().__init__(model, mesh, dtype)

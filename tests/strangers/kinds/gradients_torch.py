"""Gradients that are not there in every step, not there yet, or sparse: right trainers and broken ones."""

import numpy as np
import torch
from answering import answer_for
from heads_torch import (
    BY_ROW,
    BY_STEP,
    CLOSING,
    FEATURES,
    ROWS,
    Closing,
    Detached,
    Heads,
    InSlices,
    KeepsZeros,
    KeepsZerosAlone,
    KeepsZerosOfSgd,
    NeverClosed,
    OneRankWithout,
    Parallel,
    Trainer,
    TwoOptimizers,
    ZeroedAtTheEnd,
    adamw,
    averaged,
    closing_loss,
    heads_loss,
    mean,
    own,
    plain,
)
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

WORDS = 10
rng = np.random.default_rng(1)
TOKENS = {"tokens": rng.integers(0, WORDS, size=(ROWS, 5)), "y": rng.normal(size=(ROWS, 5, 3))}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(WORDS, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.out(torch.tanh(self.embed(tokens)))


def block_loss(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


def words_loss(model, batch):
    return ((model(batch["tokens"]) - batch["y"]) ** 2).mean()


def momentum(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def by_kind(model):
    tables, others = [model.embed.weight], [*model.out.parameters()]
    return [torch.optim.SparseAdam(tables, lr=0.05, eps=1e-3), torch.optim.Adam(others, lr=0.05, eps=1e-3)]


class Fused(Trainer):
    """Each parameter has an optimizer, which steps in the backward pass."""

    loss_of = staticmethod(block_loss)

    def __init__(self, model, mesh):
        self.model, self.mesh = model, mesh
        self.divide()
        self.by_parameter = {p: torch.optim.SGD([p], lr=0.05, momentum=0.9) for p in model.parameters()}
        self.optimizer = [*self.by_parameter.values()]
        for p in model.parameters():
            p.register_post_accumulate_grad_hook(self.update)

    def step(self, batch):
        loss = block_loss(self.model, own(batch, self.mesh))
        loss.backward()
        return {"loss": mean(loss, self.mesh)}

    def divide(self):
        pass

    def update(self, p):
        p.grad = averaged(p.grad, self.mesh)
        self.move(p)

    def move(self, p):
        self.by_parameter[p].step()
        self.by_parameter[p].zero_grad()


class FusedInDict(Fused):
    def __init__(self, model, mesh):
        super().__init__(model, mesh)
        self.optimizer = self.by_parameter


class FusedUnnamed(Fused):
    """Its optimizers are found nowhere."""

    def __init__(self, model, mesh):
        super().__init__(model, mesh)
        del self.optimizer


class FusedForgotten(Fused):
    """It moves parameters by its own arithmetic."""

    def move(self, p):
        with torch.no_grad():
            p -= 0.05 * p.grad
        p.grad = None


class FusedFsdp(Fused):
    def divide(self):
        for layer in (self.model.layers[0], self.model.layers[2], self.model):
            fully_shard(layer, mesh=self.mesh)

    def update(self, p):
        self.move(p)


class FusedEarly(Fused):
    """A planted fault: a parameter is moved before its gradient is averaged."""

    def update(self, p):
        self.by_parameter[p].step()
        p.grad = None


class Table(Trainer):
    loss_of, optimizer_of = staticmethod(words_loss), staticmethod(plain)

    def reduce(self):
        for p in self.model.parameters():
            p.grad = averaged(p.grad, self.mesh)


class ParallelTable(Table):
    def __init__(self, model, mesh):
        super().__init__(model, mesh)
        self.parallel = DistributedDataParallel(model)

    def loss_of(self, model, batch):
        return words_loss(self.parallel, batch)

    def reduce(self):
        pass


class RowsAlone(Table):
    optimizer_of = staticmethod(by_kind)


class OwnTable(Table):
    """A planted fault: the sparse gradient stays what the rank's own tokens give."""

    def reduce(self):
        for p in self.model.parameters():
            p.grad = p.grad if p.grad.is_sparse else averaged(p.grad, self.mesh)


def table(model, batch, mesh):
    """Gradients are handed over as they are, the sparse one too."""
    loss = words_loss(model, own(batch, mesh))
    loss.backward()
    return {"loss": mean(loss, mesh)} | {
        f"gradients/{name}": averaged(p.grad, mesh) for name, p in model.named_parameters()
    }


def table_of_a_rank(model, batch, mesh):
    """A planted fault: the sparse gradient is not summed over ranks."""
    loss = words_loss(model, own(batch, mesh))
    loss.backward()
    model.out.weight.grad, model.out.bias.grad = (averaged(p.grad, mesh) for p in model.out.parameters())
    return {"loss": mean(loss, mesh)}


HEADS = {"reference": heads_loss, "parameters": Heads, "optimizer": adamw, "batch": BY_ROW, "candidate": Parallel}
CLOSED = HEADS | {"reference": closing_loss, "batch": CLOSING}
FUSED = {"reference": block_loss, "parameters": Block, "optimizer": momentum, "batch": {"x": BY_ROW[0]["x"],
         "y": BY_ROW[0]["y"]}}  # fmt: skip
TABLE = {"reference": words_loss, "parameters": Words, "batch": TOKENS}
TRAINED = TABLE | {"optimizer": plain, "candidate": Table}
SPARE = {"still": ("gradients/heads.2.weight", "gradients/heads.2.bias")}
KINDS = {
    "heads by step": HEADS | SPARE | {"batch": BY_STEP},
    "heads by row": HEADS,
    "heads by row in float32": HEADS | {"dtype": "float32"},
    "heads by row, averaged by hand": HEADS | {"candidate": Trainer},
    "heads, zeroed at the end": HEADS | {"candidate": ZeroedAtTheEnd},
    "heads, zeros kept": HEADS | {"candidate": KeepsZeros},
    "heads, zeros kept, in a class": HEADS | {"candidate": KeepsZeros, "reference": KeepsZerosAlone, "optimizer": None},
    "heads with two optimizers": HEADS | {"candidate": TwoOptimizers},
    "heads, zeros kept by SGD": HEADS | {"candidate": KeepsZerosOfSgd, "optimizer": plain},
    "heads in slices": HEADS | {"candidate": InSlices},
    "heads in slices of the reference": HEADS | {"candidate": InSlices, "accumulation": 2},
    "heads, one rank without": HEADS | {"candidate": OneRankWithout},
    "heads, detached": HEADS | {"candidate": Detached},
    "closing": CLOSED | {"candidate": Closing},
    "never closed": CLOSED | {"candidate": NeverClosed},
    "fused": FUSED | {"candidate": Fused},
    "fused with FSDP2": FUSED | {"candidate": FusedFsdp},
    "fused too early": FUSED | {"candidate": FusedEarly},
    "fused, unnamed": FUSED | {"candidate": FusedUnnamed},
    "fused in a dict": FUSED | {"candidate": FusedInDict},
    "fused, forgotten": FUSED | {"candidate": FusedForgotten},
    "table": TABLE | {"candidate": table},
    "table in float32": TABLE | {"candidate": table, "dtype": "float32"},
    "table of a rank": TABLE | {"candidate": table_of_a_rank},
    "trained table": TRAINED,
    "trained table in DDP": TRAINED | {"candidate": ParallelTable},
    "trained table, rows alone": TRAINED | {"optimizer": by_kind, "candidate": RowsAlone},
    "trained table of a rank": TRAINED | {"candidate": OwnTable},
}


if __name__ == "__main__":
    answer_for(KINDS, mesh="data=2")

"""Modules of torch and losses, as people write them."""

from functools import partial

import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
torch.manual_seed(0)
ROWS, FEATURES, HIDDEN, WORDS = 12, 6, 10, 7
BATCH = {"x": rng.normal(size=(ROWS, FEATURES)), "target": rng.normal(size=(ROWS, FEATURES))}
TOKENS = {"tokens": rng.integers(0, WORDS, size=(ROWS, 5)), "labels": rng.integers(0, WORDS, size=(ROWS, 5))}
ADAMW = partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1, eps=1e-3)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, FEATURES)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


class Normed(nn.Module):
    """Running statistics are buffers; dropout does nothing in eval mode."""

    def __init__(self):
        super().__init__()
        self.up, self.norm = nn.Linear(FEATURES, HIDDEN), nn.BatchNorm1d(HIDDEN)
        self.down, self.dropout = nn.Linear(HIDDEN, FEATURES, bias=False), nn.Dropout(0.5)

    def forward(self, x):
        return self.down(self.dropout(torch.tanh(self.norm(self.up(x)))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, FEATURES), nn.Linear(FEATURES, WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embed(tokens)))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(FEATURES) / 2)
        self.frozen = nn.Parameter(torch.linspace(-1, 1, FEATURES), requires_grad=False)

    def forward(self, x):
        return torch.tanh(x * self.scale + self.frozen)


def dropping():
    return Normed().train()


def still():
    made = Normed()
    made.dropout.eval()
    return made


def loss_of(model, batch):
    y = model(batch["x"])
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def loss_of_words(model, batch):
    y = model(batch["tokens"])
    return nn.functional.cross_entropy(y.flatten(0, 1), batch["labels"].flatten()), {"y": y}


def predictions(model, batch):
    return {"y": model(batch["x"])}


def adamw(model):
    return ADAMW(model.parameters())


def in_groups(model):
    """Weights decay, all else does not."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": weights}, {"params": others, "weight_decay": 0.0}], lr=0.05, eps=1e-3,
                             weight_decay=0.5)  # fmt: skip


def sgd(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.5)


HOOKED = Block()
HOOKED.register_forward_hook(lambda module, args, output: output)

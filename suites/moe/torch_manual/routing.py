"""Which experts the tokens of a rank go to, with which gates. Every rank routes its own rows: nothing is sent.

B: rows  S: tokens of a row  E: experts  K: choices of a token
A choice is the number of an expert, or -1 for none.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scored(logits_BSE: Tensor, kind: str) -> Tensor:
    """Softmax over all experts, or the sigmoid of each by itself."""
    return logits_BSE.softmax(-1) if kind == "softmax" else logits_BSE.sigmoid()


def chosen(ranked_BSE: Tensor, top_k: int) -> Tensor:
    """The K experts that rank highest, best first, and of equals the one with the lower number."""
    return ranked_BSE.detach().sort(dim=-1, descending=True, stable=True).indices[..., :top_k]


def numbered(choices_BSK: Tensor, experts: int) -> Tensor:
    """How many of the same row come before each choice at its expert: all first choices, then all second ones."""
    rows, length, top_k = choices_BSK.shape
    queue_BN = choices_BSK.transpose(1, 2).reshape(rows, -1)
    asked_BNE = (queue_BN[..., None] == torch.arange(experts)).long()
    before_BN = ((asked_BNE.cumsum(1) - asked_BNE) * asked_BNE).sum(-1)
    return before_BN.reshape(rows, top_k, length).transpose(1, 2)


def of_choices(values_BSE: Tensor, choices_BSK: Tensor) -> Tensor:
    """[B, S, K]: what is said of the expert of every choice, 0 for -1."""
    return values_BSE.gather(-1, choices_BSK.clamp(min=0)) * (choices_BSK >= 0)


def gated(scores_BSE: Tensor, choices_BSK: Tensor, normalized: bool) -> Tensor:
    """[B, S, K]: the score of every choice, by the sum of its token's where they are normalized."""
    gates_BSK = of_choices(scores_BSE, choices_BSK)
    if not normalized:
        return gates_BSK
    sums_BS1 = gates_BSK.sum(-1, keepdim=True)
    return gates_BSK / torch.where(sums_BS1 > 0, sums_BS1, 1)

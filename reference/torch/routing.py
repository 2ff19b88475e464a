"""Routing: which experts a token goes to, with which gates, and the auxiliary losses that balance their load.

B: rows  S: tokens of a row  E: experts  K: choices of a token
A choice is the number of an expert, or -1 for none. Everything here is in `statistics`, and `real_BS` is 1 for a token
and 0 for padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reference.architecture import Architecture


def scores(logits_BSE: Tensor, kind: str) -> Tensor:
    """Softmax over experts, or the sigmoid of each logit by itself.

    Sources: Shazeer et al., Outrageously Large Neural Networks, section 2.1; DeepSeek-V3, section 2.1.2.
    """
    return torch.softmax(logits_BSE, dim=-1) if kind == "softmax" else torch.sigmoid(logits_BSE)


def ranked(scores_BSE: Tensor, bias_E: Tensor | None) -> Tensor:
    """The values that top-k selects by: the scores, plus the router bias where there is one.

    Law: the choice has no gradient, neither for the scores nor for the bias.
    """
    return (scores_BSE if bias_E is None else scores_BSE + bias_E).detach()


def best(ranked_BSE: Tensor, top_k: int) -> Tensor:
    """The K experts that rank highest, best first; of equal ones the lower number wins.

    `torch.topk` promises nothing about equal ones, a stable sort does.
    """
    return torch.sort(ranked_BSE, dim=-1, descending=True, stable=True).indices[..., :top_k]


def of_choices(values_BSE: Tensor, choices_BSK: Tensor) -> Tensor:
    """[B, S, K]: the value of the expert of each choice, 0 for none."""
    return values_BSE.gather(-1, choices_BSK.clamp(min=0)) * (choices_BSK >= 0)


def fallen(choices_BSK: Tensor, experts: int) -> Tensor:
    """[B, S, K, E]: does this choice fall on this expert?"""
    return choices_BSK[..., None] == torch.arange(experts)


def spread(values_BSK: Tensor, choices_BSK: Tensor, experts: int) -> Tensor:
    """[B, S, E]: the value of the choice that fell on an expert, 0 where none did."""
    return torch.sum(values_BSK[..., None] * fallen(choices_BSK, experts), dim=2)


def admitted(choices_BSK: Tensor, places: int, experts: int) -> Tensor:
    """The choices within the capacity, -1 for those that are dropped: an expert takes `places` tokens of a row.

    Law: first choices come before second ones, and so on; among equals the earlier token; -1 takes no place.
    """
    found_BSK = torch.full_like(choices_BSK, -1)
    free_BE = torch.full((len(choices_BSK), experts), places)
    for k in range(choices_BSK.shape[2]):
        for token in range(choices_BSK.shape[1]):
            asked_BE = fallen(choices_BSK[:, token, k], experts)
            served_B = torch.any(asked_BE & (free_BE > 0), dim=-1)
            found_BSK[:, token, k] = torch.where(served_B, choices_BSK[:, token, k], -1)
            free_BE = free_BE - asked_BE.long()
    return found_BSK


def gates(scores_BSE: Tensor, choices_BSK: Tensor, normalized: bool) -> Tensor:
    """[B, S, K]: the score of each choice, 0 for none; normalized: by their sum over the choices of the token.

    Law: dropped choices count in that sum, so that a gate does not depend on the other tokens of the row.
    """
    gates_BSK = of_choices(scores_BSE, choices_BSK)
    if not normalized:
        return gates_BSK
    sum_BS1 = gates_BSK.sum(dim=-1, keepdim=True)
    return gates_BSK / torch.where(sum_BS1 == 0, 1.0, sum_BS1)


def balance(asked_BSE: Tensor, scores_BSE: Tensor, real_BS: Tensor, model: Architecture) -> Tensor:
    """E * sum over experts of f_E P_E; it is 1 where all experts have the same load.

    f_E is the share of expert E in the choices of real tokens, before any finds no place, and P_E the mean over them of
    its share in the scores. Scope `row`: of every row by itself, averaged over rows with a real token.
    Source: Fedus et al., Switch Transformers, section 2.2; with K choices f_E is divided by K, so that it sums to 1.
    """
    shares_BSE = scores_BSE / scores_BSE.sum(dim=-1, keepdim=True) if model.scores == "sigmoid" else scores_BSE
    if model.balance_scope == "batch":
        asked_BSE, shares_BSE, real_BS = (x.flatten(0, 1)[None] for x in (asked_BSE, shares_BSE, real_BS))
    tokens_B = real_BS.sum(dim=1)
    counted_B1 = tokens_B.clamp(min=1)[:, None]
    f_BE = asked_BSE.sum(dim=1) / (model.top_k * counted_B1)
    p_BE = (real_BS[..., None] * shares_BSE).sum(dim=1) / counted_B1
    return model.experts * (f_BE * p_BE).sum() / (tokens_B > 0).sum().clamp(min=1)


def router_z(logits_BSE: Tensor, real_BS: Tensor) -> Tensor:
    """Mean over real tokens of logsumexp(logits)^2. Source: Zoph et al., ST-MoE, equation 5."""
    squares_BS = torch.logsumexp(logits_BSE, dim=-1).square()
    return (real_BS * squares_BS).sum() / real_BS.sum().clamp(min=1)

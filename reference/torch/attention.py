"""Self-attention with grouped key heads, rotary positions, padding, documents and per-head norms.

B: rows  S: query tokens  T: key tokens  D: hidden  H: query heads  K: key heads  E: head size
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from reference.architecture import Architecture
from reference.torch import fused_attention
from reference.torch.layers import Linear, RMSNorm, Tensors, dtype_of


def rotary(x_BSHE: Tensor, base: float) -> Tensor:
    """Rotate pairs (e, e + E/2) of token s by the angle s / base^(2e/E); angles in float64, rotation in the dtype of x.

    Source: Su et al., RoFormer, section 3.2.2, with the two halves of a head paired instead of neighbours.
    """
    length, size = x_BSHE.shape[1], x_BSHE.shape[3]
    angle_SE = np.outer(np.arange(length), base ** (-2.0 * np.arange(size // 2) / size))
    cos = torch.as_tensor(np.cos(angle_SE)).to(x_BSHE)[:, None, :]
    sin = torch.as_tensor(np.sin(angle_SE)).to(x_BSHE)[:, None, :]
    first, second = x_BSHE.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def visible(batch: Tensors, model: Architecture) -> Tensor:
    """[B, S, T]: query i sees key j when key j is real, of the same document and, with `causal`, j <= i; always itself.

    With `documents` one begins wherever `document_starts` is 1; else a row is one document.
    """
    token = torch.arange(batch["attention_mask"].shape[1], device=batch["attention_mask"].device)
    query_S1, key_1T = token[:, None], token[None, :]
    seen_BST = batch["attention_mask"][:, None, :] > 0
    if model.causal:
        seen_BST = seen_BST & (key_1T <= query_S1)
    if model.documents:
        document_BS = batch["document_starts"].cumsum(dim=1)
        seen_BST = seen_BST & (document_BS[:, :, None] == document_BS[:, None, :])
    return seen_BST | (key_1T == query_S1)


def attend(
    q_BSHE: Tensor,
    k_BTKE: Tensor,
    v_BTKE: Tensor,
    visible_BST: Tensor,
    statistics: torch.dtype,
    fused_gradient: bool = False,
) -> Tensor:
    """softmax(q k' / sqrt(E)) v over visible keys; query head h reads key head h // (H / K).

    The softmax is in `statistics`. With `fused_gradient` it is differentiated as in `fused_attention`.
    """
    group = q_BSHE.shape[2] // k_BTKE.shape[2]
    q_BHSE = q_BSHE.transpose(1, 2)
    k_BHTE = k_BTKE.transpose(1, 2).repeat_interleave(group, dim=1)
    v_BHTE = v_BTKE.transpose(1, 2).repeat_interleave(group, dim=1)
    core = fused_attention.Attend.apply if fused_gradient else _attend
    return core(q_BHSE, k_BHTE, v_BHTE, visible_BST, statistics).transpose(1, 2)


def _attend(q_BHSE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, visible_BST: Tensor, statistics: torch.dtype) -> Tensor:
    scores_BHST = (q_BHSE @ k_BHTE.transpose(2, 3)).to(statistics) / math.sqrt(q_BHSE.shape[3])
    scores_BHST = scores_BHST.masked_fill(~visible_BST[:, None], -math.inf)
    weights_BHST = torch.softmax(scores_BHST, dim=-1).to(v_BHTE.dtype)
    return weights_BHST @ v_BHTE


class Attention(nn.Module):
    """Projections, head norms, rotation, attention and the output projection: [B, S, D] -> [B, S, D]."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.model = model
        self.statistics = dtype_of(statistics)
        query, key = model.num_heads * model.head_size, model.num_kv_heads * model.head_size
        if model.fused_qkv:
            self.qkv = Linear(model.hidden, query + 2 * key, model.bias)
        else:
            self.query = Linear(model.hidden, query, model.bias)
            self.key = Linear(model.hidden, key, model.bias)
            self.value = Linear(model.hidden, key, model.bias)
        if model.head_norm:
            self.query_norm = RMSNorm(model.head_size, model.norm_epsilon, statistics)
            self.key_norm = RMSNorm(model.head_size, model.norm_epsilon, statistics)
        self.output = Linear(query, model.hidden, model.bias)

    def forward(self, x_BSD: Tensor, batch: Tensors) -> Tensor:
        q_BSHE, k_BSKE, v_BSKE = self.heads(x_BSD)
        if self.model.head_norm:
            q_BSHE, k_BSKE = self.query_norm(q_BSHE), self.key_norm(k_BSKE)
        if self.model.positions == "rotary":
            q_BSHE, k_BSKE = rotary(q_BSHE, self.model.rotary_base), rotary(k_BSKE, self.model.rotary_base)
        seen_BST = visible(batch, self.model)
        mixed_BSHE = attend(q_BSHE, k_BSKE, v_BSKE, seen_BST, self.statistics, self.model.fused_gradient)
        value: Tensor = self.output(mixed_BSHE.flatten(2))
        return value

    def heads(self, x_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value heads of every token."""
        if self.model.fused_qkv:
            query, key = self.model.num_heads * self.model.head_size, self.model.num_kv_heads * self.model.head_size
            q, k, v = self.qkv(x_BSD).split([query, key, key], dim=-1)
        else:
            q, k, v = self.query(x_BSD), self.key(x_BSD), self.value(x_BSD)
        return self._split(q), self._split(k), self._split(v)

    def _split(self, x: Tensor) -> Tensor:
        value: Tensor = x.unflatten(-1, (-1, self.model.head_size))
        return value

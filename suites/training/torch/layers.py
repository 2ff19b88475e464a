"""The local arithmetic of a decoder: norms, rotary positions, causal attention, sinusoidal positions.

B: rows  S: query tokens  T: key tokens  H: heads  E: head size  D: hidden
Statistics (norms, softmax) are computed in the dtype `wide` and returned in the dtype of the input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Documents = tuple[Tensor, Tensor]  # number of the document of every query [B, S] and of every key [B, T]


def rms_norm(x: Tensor, scale: Tensor, epsilon: float, wide: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * scale over the last dim (Zhang and Sennrich, 2019, section 3)."""
    y = x.to(wide)
    return (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + epsilon) * scale.to(wide)).to(x.dtype)


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, wide: torch.dtype) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last dim (Ba et al., 2016, section 3)."""
    y = x.to(wide)
    y = y - y.mean(-1, keepdim=True)
    inverse_deviation = torch.rsqrt((y * y).mean(-1, keepdim=True) + epsilon)
    return (y * inverse_deviation * scale.to(wide) + bias.to(wide)).to(x.dtype)


def rotary(x_BSHE: Tensor, positions_S: Tensor, base: float) -> Tensor:
    """Rotate pairs (e, e + E/2) of a token by the angle position / base^(2e/E) (Su et al., RoFormer, section 3.2.2)."""
    half = x_BSHE.shape[3] // 2
    frequency_E = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle_S1E = positions_S.double()[:, None, None] * frequency_E
    cos, sin = angle_S1E.cos().to(x_BSHE.dtype), angle_S1E.sin().to(x_BSHE.dtype)
    first, second = x_BSHE[..., :half], x_BSHE[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def visible(
    query_S: Tensor, key_T: Tensor, attention_mask_BT: Tensor, documents: Documents | None, causal: bool
) -> Tensor:
    """[B, S, T]: a query sees itself, and every key that is no padding, in its document and (causal) not later."""
    seen_BST = (attention_mask_BT[:, None, :] > 0).expand(-1, len(query_S), -1)
    if causal:
        seen_BST = seen_BST & (key_T[None, :] <= query_S[:, None])
    if documents is not None:
        seen_BST = seen_BST & (documents[0][:, :, None] == documents[1][:, None, :])
    return seen_BST | (key_T[None, :] == query_S[:, None])


def attend(q_BSHE: Tensor, k_BTHE: Tensor, v_BTHE: Tensor, visible_BST: Tensor, wide: torch.dtype) -> Tensor:
    """softmax(q k' / sqrt(E)) v over visible keys."""
    scores_BHST = torch.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).to(wide) / math.sqrt(q_BSHE.shape[3])
    weights_BHST = scores_BHST.masked_fill(~visible_BST[:, None], -math.inf).softmax(-1).to(v_BTHE.dtype)
    return torch.einsum("bhst,bthe->bshe", weights_BHST, v_BTHE)


def sinusoidal(positions_S: Tensor, hidden: int) -> Tensor:
    """[S, D] in float64, sin in even and cos in odd columns (Vaswani et al., section 3.5)."""
    column = torch.arange(hidden)
    frequency_D = 10000.0 ** (-2.0 * (column // 2).double() / hidden)
    angle_SD = positions_S.double()[:, None] * frequency_D
    return torch.where(column % 2 == 0, angle_SD.sin(), angle_SD.cos())

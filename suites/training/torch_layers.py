"""The arithmetic of a decoder that knows no mesh: norms, rotary positions, causal attention, sinusoidal positions.

B: rows  S: query tokens  T: key tokens  H: heads  E: head size  D: hidden
Statistics (norms, softmax) are computed in the dtype `wide` and returned in the dtype of the input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rms_norm(x: Tensor, gain: Tensor, epsilon: float, wide: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * gain over the last dim (Zhang and Sennrich, 2019, section 3)."""
    y = x.to(wide)
    return (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + epsilon) * gain.to(wide)).to(x.dtype)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float, wide: torch.dtype) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gain + bias over the last dim (Ba, Kiros and Hinton, 2016, section 3)."""
    y = x.to(wide)
    y = y - y.mean(-1, keepdim=True)
    scale = torch.rsqrt((y * y).mean(-1, keepdim=True) + epsilon)
    return (y * scale * gain.to(wide) + bias.to(wide)).to(x.dtype)


def rotary(x_BSHE: Tensor, base: float) -> Tensor:
    """Rotate pairs (e, e + E/2) of token s by the angle s / base^(2e/E) (Su et al., RoFormer, section 3.2.2)."""
    half = x_BSHE.shape[3] // 2
    frequency_E = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle_S1E = torch.arange(x_BSHE.shape[1], dtype=torch.float64)[:, None, None] * frequency_E
    cos, sin = angle_S1E.cos().to(x_BSHE.dtype), angle_S1E.sin().to(x_BSHE.dtype)
    first, second = x_BSHE[..., :half], x_BSHE[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(q_BSHE: Tensor, k_BTHE: Tensor, v_BTHE: Tensor, padding_BT: Tensor, wide: torch.dtype) -> Tensor:
    """softmax(q k' / sqrt(E)) v: query i sees key j when j <= i and j is no padding, and always itself."""
    ones = torch.ones(2 * padding_BT.shape[1:], dtype=torch.bool)
    visible_BST = (ones.tril() & (padding_BT[:, None, :] > 0)) | torch.eye(len(ones), dtype=torch.bool)
    scores_BHST = torch.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).to(wide) / math.sqrt(q_BSHE.shape[3])
    weights_BHST = scores_BHST.masked_fill(~visible_BST[:, None], -math.inf).softmax(-1).to(v_BTHE.dtype)
    return torch.einsum("bhst,bthe->bshe", weights_BHST, v_BTHE)


def sinusoidal(length: int, hidden: int) -> Tensor:
    """Positions [S, D] in float64, sin in even and cos in odd columns (Vaswani et al., section 3.5)."""
    column = torch.arange(hidden)
    frequency_D = 10000.0 ** (-2.0 * (column // 2).double() / hidden)
    angle_SD = torch.arange(length, dtype=torch.float64)[:, None] * frequency_D
    return torch.where(column % 2 == 0, angle_SD.sin(), angle_SD.cos())

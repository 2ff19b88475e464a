"""Linear, embedding, norms and sinusoidal positions.

B: rows  S: tokens of a row  D: hidden  F: output features  V: vocabulary
Modules are built on the meta device: they say which parameters there are, and `functional_call` brings the values.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from reference.architecture import Architecture

Tensors = dict[str, Tensor]


def unset(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, device="meta"))


def dtype_of(name: str) -> torch.dtype:
    """`float32` -> torch.float32."""
    value: torch.dtype = getattr(torch, name)
    return value


class Linear(nn.Module):
    """y = x w + b, with w_DF; the product and the sum are in the dtype of the operands."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = unset(inputs, outputs)
        self.bias = unset(outputs) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class Embedding(nn.Module):
    """Row `token` of w_VD."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.weight = unset(vocabulary, hidden)

    def forward(self, tokens_BS: Tensor) -> Tensor:
        return self.weight[tokens_BS]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale over the last dim, computed in `statistics`, returned in the dtype of x.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, section 3.
    """

    def __init__(self, size: int, epsilon: float, statistics: str) -> None:
        super().__init__()
        self.scale = unset(size)
        self.epsilon = epsilon
        self.statistics = dtype_of(statistics)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(self.statistics)
        inverse_rms = torch.rsqrt(torch.mean(wide * wide, dim=-1, keepdim=True) + self.epsilon)
        return (wide * inverse_rms * self.scale).to(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last dim, computed in `statistics`.

    Source: Ba, Kiros and Hinton, Layer Normalization, section 3.
    """

    def __init__(self, size: int, epsilon: float, statistics: str) -> None:
        super().__init__()
        self.scale = unset(size)
        self.bias = unset(size)
        self.epsilon = epsilon
        self.statistics = dtype_of(statistics)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(self.statistics)
        centred = wide - torch.mean(wide, dim=-1, keepdim=True)
        inverse_deviation = torch.rsqrt(torch.mean(centred * centred, dim=-1, keepdim=True) + self.epsilon)
        return (centred * inverse_deviation * self.scale + self.bias).to(x.dtype)


def norm(model: Architecture, statistics: str) -> RMSNorm | LayerNorm:
    kind = RMSNorm if model.norm == "rms" else LayerNorm
    return kind(model.hidden, model.norm_epsilon, statistics)


def sinusoidal(length: int, hidden: int) -> np.ndarray:
    """Positions [S, D] in float64: sin in even columns, cos in odd ones; wavelengths from 2 pi to 10000 * 2 pi.

    Source: Vaswani et al., Attention Is All You Need, section 3.5.
    """
    table_SD = np.empty((length, hidden))
    for column in range(hidden):
        angle_S = np.arange(length) / 10000.0 ** (2 * (column // 2) / hidden)
        table_SD[:, column] = np.sin(angle_S) if column % 2 == 0 else np.cos(angle_S)
    return table_SD

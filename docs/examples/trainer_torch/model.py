"""A small decoder: rotary positions, per-head norms, gated feed-forward, biases behind row-parallel layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Config:
    vocabulary: int = 104
    width: int = 64
    hidden: int = 168
    heads: int = 4
    layers: int = 2


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


class Attention(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.head_dim = c.width // c.heads
        self.wq, self.wk, self.wv = (nn.Linear(c.width, c.width, bias=False) for _ in range(3))
        self.wo = nn.Linear(c.width, c.width)
        self.q_norm, self.k_norm = Norm(self.head_dim), Norm(self.head_dim)

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        q, k, v = (w(x_BSD).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))
        q, k = rotated(self.q_norm(q)), rotated(self.k_norm(k))
        y = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))


def rotated(x_BSHK: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al., 2021)."""
    half = x_BSHK.shape[-1] // 2
    frequencies = 100.0 ** (-torch.arange(half, dtype=x_BSHK.dtype, device=x_BSHK.device) / half)
    angles = torch.arange(x_BSHK.shape[1], dtype=x_BSHK.dtype, device=x_BSHK.device)[:, None, None] * frequencies
    a, b = x_BSHK[..., :half], x_BSHK[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


class FeedForward(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(c.width, c.hidden, bias=False), nn.Linear(c.width, c.hidden, bias=False)
        self.w2 = nn.Linear(c.hidden, c.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(c), FeedForward(c)
        self.attention_norm, self.ffn_norm = Norm(c.width), Norm(c.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Decoder(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(c.vocabulary, c.width)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = Norm(c.width)
        self.output = nn.Linear(c.width, c.vocabulary, bias=False)

    def forward(self, tokens_BS: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(tokens_BS)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def initialised(c: Config, seed: int) -> Decoder:
    """The same on every rank and on one device: all random, norms and biases too."""
    torch.manual_seed(seed)
    model = Decoder(c)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return model

"""Muon: SGD with an orthogonalized momentum for weight matrices.

I, O: input and output features
Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_OTHERS = ("embedding.weight", "head.weight")  # matrices that are not hidden layers


def is_hidden(name: str, p: Tensor) -> bool:
    """Whether Muon orthogonalizes the update of this parameter. All others are updated by SGD."""
    return p.ndim in (2, 3) and name.endswith(".weight") and name not in _OTHERS  # stacked biases have two dims too


def newton_schulz(u_IO: Tensor) -> Tensor:
    """U f(S) V' for u = U S V', with all singular values that are not tiny brought near 1, in the dtype of u.

    Five steps of an odd polynomial of degree 5, on the wide form of the matrix, after division by its Frobenius norm.
    """
    a, b, c = _COEFFICIENTS
    tall = u_IO.shape[0] > u_IO.shape[1]
    x = (u_IO.T if tall else u_IO) / (torch.linalg.matrix_norm(u_IO) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    value: Tensor = x.T if tall else x
    return value


def orthogonal(u: Tensor) -> Tensor:
    """`newton_schulz` of a matrix, or of each of a stack of experts [E, I, O] by itself."""
    return newton_schulz(u) if u.ndim == 2 else torch.stack([newton_schulz(u_IO) for u_IO in u])


def update(p_IO: Tensor, g_IO: Tensor, slots: list[Tensor], count: Tensor, recipe: Any) -> tuple[Tensor, list[Any]]:
    """v <- momentum v + g; o = newton_schulz(g + momentum v); p <- p - rate (sqrt(max(1, O / I)) o + decay p)."""
    v = recipe.momentum * slots[0] + g_IO
    o_IO = orthogonal(g_IO + recipe.momentum * v)
    scale = math.sqrt(max(1.0, p_IO.shape[-1] / p_IO.shape[-2]))
    return p_IO - recipe.learning_rate * (scale * o_IO + recipe.weight_decay * p_IO), [v]

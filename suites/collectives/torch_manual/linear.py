"""A linear map between ranks, differentiated by the transpose that is stated beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Map, transpose: Map) -> Tensor:
        ctx.transpose = transpose
        return forward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.transpose(g), None, None


def linear(x: Tensor, forward: Map, transpose: Map) -> Tensor:
    """forward(x). Law: sum over ranks of <forward(x), g> = sum over ranks of <x, transpose(g)>."""
    if not x.is_floating_point():
        return forward(x)
    return _Linear.apply(x, forward, transpose)

"""Sparse tensors in torch, as `nn.Embedding(sparse=True)` has them for gradients: read dense, known by their values."""

from __future__ import annotations

from typing import Any

import torch


def dense(value: Any) -> Any:
    """With all elements, where a tensor is sparse; what names an element twice is added up. Else as it is."""
    return value.to_dense() if _is_sparse(value) else value


def with_memory(value: torch.Tensor) -> torch.Tensor:
    """A tensor that has a memory: of a sparse one, the values that it names."""
    return value._values() if _is_sparse(value) else value


def _is_sparse(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_sparse

"""The clipping of gradients in somebody's torch program, seen as it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils import clip_grad

SCALES = (clip_grad, torch.nn.utils), ("_clip_grads_with_norm_", "clip_grads_with_norm_")  # what every clipping calls


@contextmanager
def clipping(seen: Callable[[list[torch.Tensor], float, torch.Tensor], None]) -> Iterator[None]:
    """While it is open, `seen` (parameters, threshold, norm) is called before torch's own functions scale gradients."""
    places, names = SCALES
    before = [(place, name, getattr(place, name)) for place in places for name in names if hasattr(place, name)]

    def wrapped(scale: Callable[..., None]) -> Callable[..., None]:
        def scaled(parameters: Any, max_norm: float, total_norm: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            seen(parameters, float(max_norm), total_norm)
            scale(parameters, max_norm, total_norm, *args, **kwargs)

        return scaled

    for place, name, function in before:
        setattr(place, name, wrapped(function))
    try:
        yield
    finally:
        for place, name, function in before:
            setattr(place, name, function)

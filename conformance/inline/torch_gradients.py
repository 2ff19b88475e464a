"""The gradients of somebody's trainer in torch: accumulated, and as they are before anything clips them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from conformance.trace.torch_clipping import clipping

Gradients = dict[str, torch.Tensor]


@dataclass(kw_only=True)
class Watched:
    """Gradients by name, and whether they are of a moment before torch's own functions clipped."""

    gradients: Gradients = field(default_factory=dict)
    clipped: bool = False


@contextmanager
def watched(parameters: Callable[[], Mapping[str, Any]], optimizers: Any) -> Iterator[Watched]:
    """What is filled in while a step runs: when torch's own functions clip, else when an optimizer is about to step.

    parameters   the trainer's, by name; asked for when gradients are there
    """
    noted = Watched()

    def look(*_: Any, **__: Any) -> None:
        if not noted.gradients:
            noted.gradients = gradients_of(parameters())

    def clips(*_: Any) -> None:
        noted.clipped = noted.clipped or not noted.gradients
        look()

    with ExitStack() as stack:
        stack.enter_context(clipping(clips))
        for optimizer in optimizers if isinstance(optimizers, (list, tuple)) else (optimizers,):
            if isinstance(optimizer, torch.optim.Optimizer):
                stack.callback(optimizer.register_step_pre_hook(look).remove)
        yield noted
    look()


def gradients_of(parameters: Mapping[str, Any]) -> Gradients:
    """Copies, from the last parameter to the first, as the backward pass makes them."""
    copies: Gradients = {}
    for name, parameter in reversed(list(parameters.items())):
        gradient = getattr(parameter, "main_grad", None) if parameter.grad is None else parameter.grad
        if gradient is not None:
            copies[name] = gradient.detach().clone()
    return copies

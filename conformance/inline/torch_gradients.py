"""The gradients of somebody's trainer in torch: accumulated, and as they are before anything clips them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from conformance.trace.torch_clipping import clipping
from conformance.trace.torch_sparse import dense
from conformance.trace.torch_watcher import in_backward

Gradients = dict[str, torch.Tensor]


class Watched:
    """Gradients by name, each of the moment before it is first clipped or its own optimizer steps.

    An optimizer may step in the backward pass, where gradients of others are not there yet, or not reduced. Outside of
    it those of others are noted too, for as long as nothing else says when they are there: the step may clear them.

    clipped    some are of a moment before torch's own functions clipped
    stepped    an optimizer of torch has stepped
    """

    def __init__(self, parameters: Callable[[], Mapping[str, Any]]) -> None:
        self.clipped = self.stepped = False
        self._parameters = parameters
        self._own, self._others = Gradients(), Gradients()

    def clips(self, clipped: Iterable[torch.Tensor], *_: Any) -> None:
        self.clipped |= self._note(clipped)

    def steps(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.stepped = True
        self._note(parameter for group in optimizer.param_groups for parameter in group["params"])

    def _note(self, affected: Iterable[torch.Tensor]) -> bool:
        """Whether a gradient was new."""
        held, ids = self._parameters(), set(map(id, affected))
        touched = {name for name, parameter in held.items() if id(parameter) in ids}
        known = self._own.keys() | self._others.keys() | touched
        own = gradients_of({name: held[name] for name in touched - self._own.keys()})
        others = {} if in_backward() else gradients_of({n: p for n, p in held.items() if n not in known})
        self._others = {name: g for name, g in self._others.items() if name not in touched} | others
        self._own |= own
        return bool(own or others)

    def gradients(self) -> Gradients:
        """After the step, from the last parameter to the first, as the backward pass makes them."""
        held = self._parameters()
        noted = self._others | self._own
        noted |= gradients_of({name: parameter for name, parameter in held.items() if name not in noted})
        return {name: noted[name] for name in reversed(list(held)) if name in noted}


@contextmanager
def watched(parameters: Callable[[], Mapping[str, Any]]) -> Iterator[Watched]:
    """What is noted while a step runs: when torch's own functions clip, and when an optimizer is about to step.

    parameters   the trainer's, by name; asked for when gradients are there
    """
    noted = Watched(parameters)
    hook = register_optimizer_step_pre_hook(noted.steps)
    try:
        with clipping(noted.clips):
            yield noted
    finally:
        hook.remove()


def gradients_of(parameters: Mapping[str, Any]) -> Gradients:
    """Copies of those that are there."""
    copies: Gradients = {}
    for name, parameter in parameters.items():
        gradient = getattr(parameter, "main_grad", None) if parameter.grad is None else parameter.grad
        if gradient is not None:
            copies[name] = dense(gradient.detach()).clone()
    return copies

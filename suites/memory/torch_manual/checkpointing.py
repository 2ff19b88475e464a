"""Activation checkpointing by `torch.utils.checkpoint`, with the policy of the recipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from suites.memory.policies import Policy, policy_of
from suites.memory.step_budget import BUDGETS
from suites.training.step_budget import Budgets
from suites.training.torch.recompute import Layer, recomputing
from suites.training.torch.state import Named

if TYPE_CHECKING:
    from suites.tensor.torch_manual.transformer import LanguageModel as Conforming
else:
    Conforming = object  # a mixin: it comes before the model in the bases
Results = deque[Tensor]


class Summed(torch.autograd.Function):
    """A sum over ranks that is known already; the gradient goes to each of them as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, known: Tensor) -> Tensor:
        return known.view_as(known)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return g, None


class Checkpointing(Conforming):
    """A mixin. Where sums over a mesh axis are kept, the second run of a layer takes them and communicates nothing.

    Law: what is computed again has the bits that it had, so no gradient changes.
    """

    sends: ClassVar[Budgets] = BUDGETS

    noted: Results | None = None  # sums over the kept axis, while the first run of a layer makes them
    known: Results | None = None  # the same, while the second run takes them

    @cached_property
    def policy(self) -> Policy:
        return policy_of(self.contract.recipe)

    def recomputed(self, layer: Layer) -> Layer:
        if self.policy.block != "layer":
            return layer
        again = recomputing(layer, self.both_runs) if self.policy.axis else recomputing(layer)

        def run(x: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
            return (again if self.policy.repeats_layer(name) else layer)(x, batch, name, p, observed)

        return run

    def both_runs(self) -> tuple[Any, Any]:
        """The contexts of the two runs of one layer."""
        results: Results = deque()
        return self.within("noted", results), self.within("known", results)

    @contextmanager
    def within(self, which: str, results: Results) -> Iterator[None]:
        before = getattr(self, which)
        setattr(self, which, results)
        try:
            yield
        finally:
            setattr(self, which, before)

    def reduce_from(self, x: Tensor, axis: str) -> Tensor:
        if axis != self.policy.axis or self.mesh.size(axis) == 1:
            return super().reduce_from(x, axis)
        if self.known is not None:
            return Summed.apply(x, self.known.popleft())
        y = super().reduce_from(x, axis)
        if self.noted is not None:
            self.noted.append(y.detach())
        return y

    def fed(self, x: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        if self.policy.block != "feedforward":
            return super().fed(x, batch, name, p, observed)
        settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False, "early_stop": False}
        block: Callable[..., Tensor] = super().fed
        return checkpoint(lambda x: block(x, batch, name, p, {}), x, **settings)

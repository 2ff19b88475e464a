"""Decoder layers that keep only their inputs and are computed again in the backward pass.

Law: recomputation changes no bit. Source: Chen et al., Training Deep Nets with Sublinear Memory Cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint, noop_context_fn

from suites.training.torch.state import Named, TorchTraining

Layer = Callable[[Tensor, Named, str, Named, Named], Tensor]  # (x, batch, name, parameters, observed) -> y


class Recomputed(TorchTraining):
    @property
    def recomputes(self) -> bool:
        return self.contract.recipe.recompute == "layer"

    def recomputed(self, layer: Layer) -> Layer:
        """The layer, recomputed in the backward pass where the recipe says so.

        The second time it goes to its end, so that all that it communicates is communicated twice. There is no state
        of a random generator to restore: masks are functions of the seeds in the batch.
        """
        return recomputing(layer) if self.recomputes else layer

    def recomputed_core(self, attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The core of attention (scores, softmax, weighted sum), recomputed where the recipe says so.

        Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 5.
        """
        if self.contract.recipe.recompute != "attention":
            return attend
        return lambda *given: checkpoint(attend, *given, use_reentrant=False, preserve_rng_state=False)


def recomputing(layer: Layer, contexts: Callable[[], Any] = noop_context_fn) -> Layer:
    """The layer, of which only its input is kept; its two runs are made in the two contexts of a pair."""

    def run(x: Tensor, batch: Named, name: str, p: Named) -> tuple[Tensor, Named]:
        observed: Named = {}
        return layer(x, batch, name, p, observed), observed

    def twice(x: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        """What is observed is what the first computation saw."""
        settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False, "early_stop": False}
        y, seen = checkpoint(run, x, batch, name, p, context_fn=contexts, **settings)
        observed.update(seen)
        return y

    return twice

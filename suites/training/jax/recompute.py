"""Decoder layers that keep only their inputs and are computed again in the backward pass.

Law: recomputation changes no value. Source: Chen et al., Training Deep Nets with Sublinear Memory Cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from suites.training.jax.state import JaxTraining, Named

Layer = Callable[[jax.Array, Named, str, Named, Named], jax.Array]  # (x, batch, name, parameters, observed) -> y


class Recomputed(JaxTraining):
    @property
    def recomputes(self) -> bool:
        return self.contract.recipe.recompute == "layer"

    def recomputed(self, layer: Layer) -> Layer:
        """The layer, recomputed in the backward pass where the recipe says so.

        There is no state of a random generator to restore: masks are functions of the seeds in the batch. What a layer
        ends with, and nothing in its backward pass needs, JAX does not compute again.
        """
        return recomputing(layer) if self.recomputes else layer

    def recomputed_core(self, attend: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        """The core of attention (scores, softmax, weighted sum), recomputed where the recipe says so.

        Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 5.
        """
        if self.contract.recipe.recompute != "attention":
            return attend
        return lambda q, k, v, batch: jax.checkpoint(lambda q, k, v: attend(q, k, v, batch))(q, k, v)


def recomputing(layer: Layer, policy: Callable[..., Any] | None = None) -> Layer:
    """The layer, of which only its input is kept, and what the policy says of its own."""

    def twice(x: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        def run(x: jax.Array, own: Named) -> tuple[jax.Array, Named]:
            seen: Named = {}
            return layer(x, batch, name, p | own, seen), seen

        own = {parameter: value for parameter, value in p.items() if parameter.startswith(f"{name}.")}
        y, seen = jax.checkpoint(run, policy=policy)(x, own)
        observed.update(seen)
        return y

    return twice

"""ZeRO stage 2: optimizer slots and gradients are sharded over the shard axis; parameters are whole on every device.

Law: the gradient of each slice of the batch is summed and sharded by one reduce-scatter, and what is added up over
slices are shards: no device ever keeps a whole summed gradient. Over other axes of the data the shards are summed once.
Source: Rajbhandari et al., ZeRO, section 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from suites.data.jax_manual.contrastive import ContrastiveTowers
from suites.data.jax_manual.evaluation import Evaluation
from suites.data.jax_manual.sharding import ShardedGradients, ShardedSlots
from suites.data.transfers import gathers_of_updated, scatters_of_slices
from suites.tensor.jax_manual import linear, transformer
from suites.training.jax.state import Named
from suites.training.traffic import Transfer


class Zero2(ShardedSlots, ShardedGradients):
    """A mixin for any training step."""

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        gradients, sums, rows = super().slice_gradients(parameters, batch)
        return {name: self.scatter_gradient(name, g) for name, g in gradients.items()}, sums, rows

    def transfers(self) -> Iterator[Transfer]:
        """Scatters follow the backward pass of their slice."""
        yield from super().transfers()
        yield from gathers_of_updated(self)
        yield from scatters_of_slices(self, (("forward", self.contract.recipe.accumulation),))


class Linear(Zero2, linear.ColumnLinear):
    """One linear layer."""


class Layer(Zero2, transformer.Layer):
    """One decoder layer."""


class LanguageModel(Zero2, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(Zero2, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""


class Evaluated(Evaluation, LanguageModel):
    """The same, and an evaluation after every step."""

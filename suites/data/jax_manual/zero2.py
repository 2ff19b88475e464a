"""ZeRO stage 2: optimizer slots and gradients are sharded over the shard axis; parameters are whole on every device.

Law: the gradient of each slice of the batch is summed and sharded by one reduce-scatter, and what is added up over
slices are shards: no device ever keeps a whole summed gradient. Over other axes of the data the shards are summed once.
Source: Rajbhandari et al., ZeRO, section 5.2.
"""

from __future__ import annotations

from typing import ClassVar

from suites.data.jax_manual.contrastive import ContrastiveTowers
from suites.data.jax_manual.evaluation import Evaluation
from suites.data.jax_manual.sharding import ShardedGradients, ShardedSlots
from suites.data.step_budget import ZERO_2, evaluated
from suites.tensor.jax_manual import linear, transformer
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class Zero2(ShardedSlots, ShardedGradients):
    """A mixin for any training step."""

    sends: ClassVar[Budgets] = ZERO_2

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        gradients, sums, rows = super().slice_gradients(parameters, batch)
        return {name: self.scatter_gradient(name, g) for name, g in gradients.items()}, sums, rows


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

    sends = evaluated(ZERO_2)

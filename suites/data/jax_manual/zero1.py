"""ZeRO stage 1: optimizer slots are sharded over the shard axis; parameters and gradients are whole on every device.

Law: the update of an element depends on nothing but its own gradient, parameter and slots, so one device can do
it for all; the updated shards are gathered and are the parameters of the next step on every device.
Source: Rajbhandari et al., ZeRO, section 5.1.
"""

from __future__ import annotations

from typing import ClassVar

import jax

from suites.data.jax_manual.contrastive import ContrastiveTowers
from suites.data.jax_manual.evaluation import Evaluation
from suites.data.jax_manual.sharding import ShardedSlots
from suites.data.step_budget import ZERO_1, evaluated
from suites.tensor.jax_manual import linear, transformer
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class Zero1(ShardedSlots):
    """A mixin for any training step."""

    sends: ClassVar[Budgets] = ZERO_1

    def update(self, state: dict, gradients: Named, factor: jax.Array) -> dict:
        return super().update(state, {name: self.own_shard(name, g) for name, g in gradients.items()}, factor)


class Linear(Zero1, linear.ColumnLinear):
    """One linear layer."""


class Layer(Zero1, transformer.Layer):
    """One decoder layer."""


class LanguageModel(Zero1, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(Zero1, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""


class Evaluated(Evaluation, LanguageModel):
    """The same, and an evaluation after every step."""

    sends = evaluated(ZERO_1)

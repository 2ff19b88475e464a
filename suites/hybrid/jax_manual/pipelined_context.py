"""data x pipeline x sequence x tensor: stages under 1F1B, Ulysses inside them, a sharded stream between blocks.

An all-to-all waits for the devices of its own group, which all do the same work. A permute, as of a ring, is one
operation of all devices of the program on a CPU: in a stage, which only some of them compute, it would wait for ever.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.hybrid.context import ContextInStages
from suites.hybrid.step_budget import CONTEXT_VECTORS
from suites.pipeline.jax_manual import models
from suites.sequence.jax_manual import ulysses


class LanguageModel(ContextInStages, models.LanguageModel, ulysses.LanguageModel):
    """A dense decoder language model."""

    pipeline_budget = CONTEXT_VECTORS
    schedule_name = "1f1b"

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        """Elements of what meets other tokens on each device of the tensor axis are summed over it first."""
        is_partial = self.own_elements(self.is_partial)
        summed = self.reduced(jnp.where(is_partial, g, 0), self.sum_over_tensor)
        return super().sum_gradient(name, jnp.where(is_partial, summed, g))

"""Activation checkpointing by `jax.checkpoint`, with the policy of the recipe."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import jax
from jax.ad_checkpoint import checkpoint_name

from suites.memory.policies import Policy, policy_of
from suites.memory.step_budget import BUDGETS
from suites.training.jax.recompute import Layer, recomputing
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets

if TYPE_CHECKING:
    from suites.tensor.jax_manual.transformer import LanguageModel as Conforming
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class Checkpointing(Conforming):
    """A mixin. Results of collectives have the name of their mesh axis, by which a policy may keep them.

    Law: what is computed again has the bits that it had, so no gradient changes.
    """

    sends: ClassVar[Budgets] = BUDGETS

    @cached_property
    def policy(self) -> Policy:
        return policy_of(self.contract.recipe)

    def recomputed(self, layer: Layer) -> Layer:
        if self.policy.block != "layer":
            return layer
        kept = jax.checkpoint_policies.save_only_these_names(*filter(None, [self.policy.axis]))
        again = recomputing(layer, kept)

        def run(x: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
            return (again if self.policy.repeats_layer(name) else layer)(x, batch, name, p, observed)

        return run

    def fed(self, x: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        if self.policy.block != "feedforward":
            return super().fed(x, batch, name, p, observed)
        own = {parameter: value for parameter, value in p.items() if parameter.startswith(f"{name}.")}
        return jax.checkpoint(lambda x, own: super(Checkpointing, self).fed(x, batch, name, own, {}))(x, own)

    def reduce_from(self, x: jax.Array, axis: str) -> jax.Array:
        return checkpoint_name(super().reduce_from(x, axis), axis)

    def gather_from_tensor(self, x: jax.Array, dim: int) -> jax.Array:
        return checkpoint_name(super().gather_from_tensor(x, dim), self.tensor_axis)

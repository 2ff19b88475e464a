"""A mixture of experts whose parameters lie in a vector with all others of their stages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from reference.architecture import is_router_bias
from reference.jax.rounding import rounded
from suites.moe.layout import is_expert
from suites.pipeline.jax_manual.packing import PACKED
from suites.training.jax.state import Named

if TYPE_CHECKING:
    from suites.moe.layout import ExpertLayout
    from suites.pipeline.jax_manual.models import LanguageModel

    class Conforming(LanguageModel, ExpertLayout):
        """A pipeline with expert parallelism."""
else:
    Conforming = object  # a mixin: it comes before the pipeline in the bases


class PackedMixture(Conforming):
    """Operations on single parameters, applied to their elements of the packed vector."""

    def wide(self, x: jax.Array) -> jax.Array:
        return x.astype(self.master)

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        """All elements over the other axes, and over the expert axis those that do not belong to an expert."""
        others = tuple(axis for axis in self.gradient_axes if axis != self.expert_axis)
        g = self.reduced(g, partial(self.sum_over, others))
        owned = self.own_elements(is_expert)
        common = self.reduced(jnp.where(owned, 0, g), partial(self.sum_over, (self.expert_axis,)))
        g = jnp.where(owned, g, common)
        return self.sum_tied(g) if self.tied else g

    def update(self, state: dict, gradients: Named, factor: jax.Array) -> dict:
        """The optimizer leaves router biases as they are."""
        new, stays = super().update(state, gradients, factor), self.own_elements(is_router_bias)

        def kept(old: Named, moved: Named) -> Named:
            return {PACKED: jnp.where(stays, old[PACKED], moved[PACKED])}

        slots = {slot: kept(state["optimizer"][slot], values) for slot, values in new["optimizer"].items()}
        return {**new, "parameters": kept(state["parameters"], new["parameters"]), "optimizer": slots}

    def adjusted(self, state: dict, sums: Named) -> dict:
        """The router biases after a step, each on the rank of its stage."""
        if not self.contract.model.router_bias:
            return state
        wide = state["optimizer"]["master"] if self.master_dtype else state["parameters"]
        moved = self.on_own_rank(partial(self.levelled, sums), wide[PACKED].astype(self.master))
        slots = state["optimizer"] | ({"master": {PACKED: moved}} if self.master_dtype else {})
        return {**state, "parameters": {PACKED: rounded(moved, self.stored_dtype)}, "optimizer": slots}

    def levelled(self, sums: Named, rank: int, vector: jax.Array) -> jax.Array:
        biases = {}
        for name in self.mixtures:
            if f"{name}.router.bias" in self.stored_vector.starts[rank]:
                load_E = sums[f"metrics/load/{name}"]
                biases[f"{name}.router.bias"] = self.contract.model.bias_update_rate * jnp.sign(load_E.mean() - load_E)
        return self.stored_vector.added(vector, biases, rank)

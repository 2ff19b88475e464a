"""Faults whose mixin in JAX differs from that in torch."""

from __future__ import annotations

import jax.numpy as jnp

from suites.moe.layout import is_expert
from suites.tensor.faults import Conforming


class UnpermutedForward(Conforming):
    """Tokens come back by the permutation that brought them, not by its inverse."""

    def unsorted(self, rows, order):
        return rows[order]


class IdleExpertsNotUpdated(Conforming):
    """An expert without tokens has no gradient, so that its moments and its weights stay as they are."""

    def update(self, state, gradients, factor):
        new = super().update(state, gradients, factor)
        slots = {
            slot: self.kept(gradients, state["optimizer"][slot], new["optimizer"][slot]) for slot in self.slot_names
        }
        return {**new, "parameters": self.kept(gradients, state["parameters"], new["parameters"]), "optimizer": slots}

    def kept(self, gradients, old, new):
        return {
            name: jnp.where(_is_busy(g), new[name], old[name]) if is_expert(name) else new[name]
            for name, g in gradients.items()
        }


def _is_busy(g):
    return jnp.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True)

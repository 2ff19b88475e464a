"""Faults whose mixin in torch differs from that in JAX."""

from __future__ import annotations

import torch

from suites.moe.layout import is_expert
from suites.tensor.faults import Conforming


class UnpermutedForward(Conforming):
    """Tokens come back by the permutation that brought them, not by its inverse."""

    def unsorted(self, rows, order, number):
        sums = rows.new_zeros(number, rows.shape[-1])
        return sums.index_add(0, torch.arange(len(order)), rows[order % len(rows)])


class IdleExpertsNotUpdated(Conforming):
    """An expert without tokens has no gradient, so that its moments and its weights stay as they are."""

    def update(self, state, gradients, factor):
        new = super().update(state, gradients, factor)
        for name, g in gradients.items():
            if is_expert(name):
                idle = (g.reshape(len(g), -1) == 0).all(1)
                new["parameters"][name][idle] = state["parameters"][name][idle]
                for slot, values in state["optimizer"].items():
                    new["optimizer"][slot][name][idle] = values[name][idle]
        return new

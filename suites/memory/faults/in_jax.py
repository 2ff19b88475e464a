"""Faults and controls written with JAX's own API."""

from __future__ import annotations

from dataclasses import replace

import jax

from suites.data.faults.state_in_jax import OtherwiseInBackward
from suites.tensor.faults import Conforming
from suites.training.jax.recompute import recomputing


class SumLostInBackward(OtherwiseInBackward):
    """A layer that is computed again leaves out its sums over the tensor axis."""

    lost = False

    def of_two(self, layer):
        def run(x, batch, name, p, observed):
            y = layer(x, batch, name, p, observed)
            self.lost = True
            again = layer(x, batch, name, p, {})
            self.lost = False
            return again + jax.lax.stop_gradient(y - again)

        return run

    def reduce_from_tensor(self, x):
        return x if self.lost else super().reduce_from_tensor(x)


class StateNotDonated(Conforming):
    """The program is compiled without the donation that is declared."""

    donated = ()


class ReadAfterDonation(Conforming):
    """The parameters of before the step are read after the step has taken them over."""

    def step(self, state, batch):
        new, seen = super().step(state, batch)
        moved = [abs(new["parameters"][name] - old).max() for name, old in state["parameters"].items()]
        return new, seen | {"metrics/largest_update": max(moved)}


class RecomputedTwice(Conforming):
    """A control: a layer that is computed again lies in another one that is."""

    def recomputed(self, layer):
        return recomputing(super().recomputed(layer))

    def declare(self):
        return replace(super().declare(), traffic=None)

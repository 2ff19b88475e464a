"""Faults of memory, written with JAX's own API."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.data.faults import memory
from suites.tensor.faults import Conforming


class GradientsWithoutSharding(Conforming):
    """The gradients leave the program with no sharding of their own, so that every device gets them whole."""

    def mean_gradient(self, name, g, weight):
        return self.constrain(super().mean_gradient(name, g, weight), {})


class SlotsWithoutSharding(memory.Declared):
    """The optimizer slots of the embedding are made without a sharding, whole on every device."""

    def declared(self, names):
        slots = [(slot, name) for slot in self.slot_names for name in names]
        return {f"optimizer/{slot}/{name}": self.placements(name) for slot, name in slots}

    def slot_placements(self, name):
        return {} if name == memory.EMBEDDING else super().slot_placements(name)


class BatchOnEveryRank(memory.BatchOnEveryRank):
    """See there."""

    def device_step(self, state, batch):
        return super().device_step(state, {key: self.own_rows(value) for key, value in batch.items()})

    def own_rows(self, x):
        for axis in self.active(self.row_axes):
            rows = len(x) // self.mesh.size(axis)
            x = jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis) * rows, rows)
        return x


class ParametersKeptTwice(Conforming):
    """The state keeps a copy of the parameters, which nothing reads and nothing hands over."""

    def place(self, parameters, mesh):
        return self.with_copy(super().place(parameters, mesh))

    def step(self, state, batch):
        state, seen = super().step({key: value for key, value in state.items() if key != "spare"}, batch)
        return self.with_copy(state), seen

    def with_copy(self, state):
        return state | {"spare": {name: jnp.array(p, copy=True) for name, p in state["parameters"].items()}}


class StateHandedOverAsCopies(Conforming):
    """A control: what is collected are copies of what is kept, each made for that."""

    def collect(self, state):
        return super().collect(jax.tree.map(lambda x: jnp.array(x, copy=True), state))


class NothingDeclared(Conforming):
    """A control: the implementation does not say how its tensors lie. Whole gradients would be sent as such, too."""

    def declare(self):
        return memory.replace(super().declare(), layout=None)

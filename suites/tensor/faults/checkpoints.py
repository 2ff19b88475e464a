"""Checkpoints of parameters that are sharded over the tensor axis."""

from __future__ import annotations

import numpy as np

from suites.tensor.faults import Conforming

FUSED = (".qkv.", ".gate_up.")


class FusedInOrderOfRanks(Conforming):
    """A fused projection is saved as ranks hold it, each its part of every section, and cut evenly when it is loaded.

    That fits on as many ranks as it was saved from. JAX lays out a whole state, torch one tensor after the other.
    """

    loads = False

    def saved(self, state):
        for key, value in super().saved(state):
            yield key, self.turned(key.rpartition("/")[2], value)

    def load(self, folder, mesh):
        self.loads = True
        return super().load(folder, mesh)

    def laid_out(self, state):
        slots = {slot: self.as_loaded(values) for slot, values in state["optimizer"].items()}
        return super().laid_out(state | {"parameters": self.as_loaded(state["parameters"]), "optimizer": slots})

    def stored(self, name, canonical):
        return super().stored(name, self.as_loaded({name: canonical})[name])

    def slot(self, name, canonical):
        return super().slot(name, self.as_loaded({name: canonical})[name])

    def as_loaded(self, values):
        return {name: self.turned(name, value, back=True) for name, value in values.items()} if self.loads else values

    def turned(self, name, value, back=False):
        for dim, stored in self.positions(name).items() if any(module in name for module in FUSED) else ():
            if len(stored) == value.shape[dim]:  # nothing is padded or repeated
                value = value[(slice(None),) * dim + (np.argsort(stored) if back else stored,)]
        return value

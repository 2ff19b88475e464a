"""Faults of memory, written with torch's own API."""

from __future__ import annotations

from suites.data.faults import memory
from suites.tensor.faults import Conforming


class BatchOnEveryRank(memory.BatchOnEveryRank):
    """See there."""

    def accumulate(self, parameters, batch):
        return super().accumulate(parameters, {key: self.own_rows(value) for key, value in batch.items()})

    def own_rows(self, x):
        for axis in self.row_axes:
            x = self.axis(axis).own(x, 0)
        return x


class ParametersKeptTwice(Conforming):
    """The state keeps a copy of the parameters, which nothing reads and nothing hands over."""

    def place(self, parameters, mesh):
        return self.with_copy(super().place(parameters, mesh))

    def step(self, state, batch):
        state, seen = super().step({key: value for key, value in state.items() if key != "spare"}, batch)
        return self.with_copy(state), seen

    def with_copy(self, state):
        return state | {"spare": {name: p.clone() for name, p in state["parameters"].items()}}


class StateHandedOverAsCopies(Conforming):
    """A control: what is collected are copies of what is kept, each made for that."""

    def collect(self, state):
        slots = {slot: self.copies(values) for slot, values in state["optimizer"].items()}
        return super().collect(state | {"parameters": self.copies(state["parameters"]), "optimizer": slots})

    def copies(self, tensors):
        return {name: tensor.clone() for name, tensor in tensors.items()}


class NothingDeclared(memory.GradientsKeptWhole):
    """A control: gradients are whole, and the implementation does not say how its tensors lie."""

    def declare(self):
        return memory.replace(super().declare(), layout=None)

"""Accumulation, the optimizer, and the steps after the first."""

from __future__ import annotations

from functools import reduce

from suites.tensor.faults import Conforming


class SlicesOverwritten(Conforming):
    """Each slice of the batch overwrites the gradient of the one before."""

    def add_gradients(self, summed, new):
        return new


class EarlySlicesNotReduced(Conforming):
    """Only the last slice's gradient is summed over the data ranks; those of earlier slices stay local."""

    def join(self, parts):
        """Rows of all slices, one after the other."""
        raise NotImplementedError

    def accumulate(self, parameters, batch):
        slices = self.contract.recipe.accumulation
        if slices == 1:
            self.early = dict.fromkeys(self.contract.shapes, 0)
            return super().accumulate(parameters, batch)
        size = len(batch["mask"]) // slices
        parts = [{key: rows[i * size : (i + 1) * size] for key, rows in batch.items()} for i in range(slices)]
        gradients, sums, rows = zip(*(self.slice_gradients(parameters, part) for part in parts), strict=True)
        self.early = reduce(self.add_gradients, gradients[:-1])
        total = {name: sum(part[name] for part in sums) for name in sums[0]}
        return gradients[-1], total, {name: self.join([part[name] for part in rows]) for name in rows[0]}

    def sum_gradient(self, name, g):
        return super().sum_gradient(name, g) + self.early[name]


class ParametersNeverUpdated(Conforming):
    """The optimizer holds parameters from before they were sharded; those of the model stay as they are."""

    def update(self, state, gradients, factor):
        return super().update(state, gradients, factor) | {"parameters": state["parameters"]}


class UpdateOfFirstRankOnly(Conforming):
    """The first data rank updates the parameters, but they are not broadcast to the others."""

    def update(self, state, gradients, factor):
        new, old = super().update(state, gradients, factor), state["parameters"]
        first = self.axis_rank("data") == 0
        return new | {
            "parameters": {name: old[name] + first * (p - old[name]) for name, p in new["parameters"].items()}
        }


class StaleParameter(Conforming):
    """From the second step on one layer computes with the stale weight of the step before."""

    def read_parameters(self, state):
        step = {name: self.contract.recipe.learning_rate * v for name, v in state["optimizer"]["momentum"].items()}
        return {name: p + step[name] if ".down." in name else p for name, p in state["parameters"].items()}


class HooksLostAfterFirstStep(Conforming):
    """From the second step on gradients are no longer summed over the data ranks."""

    def read_parameters(self, state):
        self.later = state["count"] > 0
        return super().read_parameters(state)

    def sum_gradient(self, name, g):
        whole = super().sum_gradient(name, g)
        return whole + self.later * (g - whole)
